package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// drive makes a drive with a label, as cloud-init and hypervisors do, and gives the machine it as a CD.
func (w *world) drive(label string, files map[string]string) {
	w.t.Helper()
	dir, iso := filepath.Join(w.dir, label), filepath.Join(w.dir, label+".iso")
	for name, text := range files {
		path := filepath.Join(dir, name)
		w.must(errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)))
	}
	out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-V", label, "-J", "-r", "-o", iso, dir).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	w.options.Extra = append(w.options.Extra, "-drive", "if=none,id="+label+",media=cdrom,format=raw,readonly=on,file="+iso, "-device", "ide-cd,drive="+label)
}

// addressed is a configuration with a name and an address of its own.
func addressed(name, address string) string {
	return "machine:\n  host-name: " + name + "\n  disk: serial:data\n  interfaces:\n    - interface: mac=52:54:00:12:34:56\n" +
		"      addresses: [" + address + "/24]\n      gateways: [" + hostAddress + "]\nnfs: {lease: 20s}\n"
}

// The configuration comes on a config drive, with a name and an address; then another one is tried, and taken back by
// itself, as nobody confirms it.
func TestConfigDrive(t *testing.T) {
	const first, second = "10.96.0.7", "10.96.0.8"
	w := newWorld(t)
	w.drive("cidata", map[string]string{"meta-data": "instance-id: rig\n", "user-data": addressed("rig1", first)})
	w.start()
	w.await(`name\s+rig1\s`)
	w.await(`state\s+serving, file systems: 0; data on nvme1n1`)
	w.await(`address\s+` + first + `\s`)
	key := w.await(`AWS_ACCESS_KEY_ID=(\S+)\s+AWS_SECRET_ACCESS_KEY=(\S+)\s`)
	ca := filepath.Join(w.dir, "ca.pem")
	w.must(os.WriteFile(ca, []byte(w.asked("curl", "--silent", "--show-error", "--fail", "http://"+first+":2050/ca.pem")), 0o644))
	w.signIn(ca, key[1], key[2])
	w.env = append(w.env, "NFSEAL_ENDPOINT_URL=https://"+first+":2051")
	w.awaitName("rig1")
	other := filepath.Join(w.dir, "other.yaml")
	w.must(os.WriteFile(other, []byte(addressed("rig2", second)), 0o600))
	t.Log(strings.TrimSpace(w.asked(w.nfseal, "config", "apply", other, "--try", "--for", "150")))
	w.await(`name\s+rig2\s`)
	w.await(`address\s+` + second + `\s`)
	w.await(`(?s)name\s+rig2\s.*name\s+rig1\s.*address\s+` + first + `\s`)
	w.await(`(?s)name\s+rig2\s.*name\s+rig1\s+state\s+serving`)
	w.awaitName("rig1")
}

// awaitName waits until the API tells the machine's name. Its certificate has a new address some seconds after the machine:
// the daemon takes one that it has seen twice.
func (w *world) awaitName(want string) {
	w.t.Helper()
	w.during(clientTime, "the API says that the machine is "+want, noProgress, func(ctx context.Context) error {
		for {
			name, err := w.hostName(ctx)
			if name == want {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("it is called %q: %w", name, errors.Join(ctx.Err(), err))
			case <-time.After(time.Second):
			}
		}
	})
}

// hostName is the machine's, as its API tells.
func (w *world) hostName(ctx context.Context) (string, error) {
	args := append(append([]string{"env"}, w.env...), w.nfseal, "status", "--json")
	text, err := w.network.Run(ctx, args...)
	if err != nil {
		return "", err
	}
	var s struct{ Host struct{ Name string } }
	err = json.Unmarshal([]byte(text), &s)
	return s.Host.Name, err
}
