package e2e

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance"
	"github.com/nfseal/nfseal/internal/daemon"
)

// unitServer is the program of ./units.
type unitServer struct {
	t       *testing.T
	cmd     *exec.Cmd
	orders  io.WriteCloser
	answers *bufio.Scanner
}

func startUnits(t *testing.T, w *world, data, ip string) *unitServer {
	t.Helper()
	u := &unitServer{t: t, cmd: exec.Command(filepath.Join(w.bin, "units"), data, ip)}
	u.cmd.Stderr = os.Stderr
	var err error
	if u.orders, err = u.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	answers, err := u.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	u.answers = bufio.NewScanner(answers)
	if err := w.network.Start(u.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.end)
	return u
}

func (u *unitServer) end() {
	if u.cmd.ProcessState != nil {
		return
	}
	if err := u.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		u.t.Error(err)
	}
	if err := u.cmd.Wait(); err != nil {
		u.t.Errorf("units: %v", err)
	}
}

func (u *unitServer) order(line string) {
	u.t.Helper()
	if _, err := io.WriteString(u.orders, line+"\n"); err != nil {
		u.t.Fatal(err)
	}
	if !u.answers.Scan() || u.answers.Text() != "ok" {
		u.t.Fatalf("%s: %q %v", line, u.answers.Text(), u.answers.Err())
	}
}

// unitsOf are the units of a data directory.
func unitsOf(t *testing.T, data string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(data, "units"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// One of two units stops while the mount of the other goes on; started again, its own mount goes on
// too. Then its directory, copied into another data directory, serves the same files there.
func TestUnitsStopStartAndMove(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w, "-volume-size", "512MiB")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	first := unitsOf(t, s.data)[0]
	// The roomiest unit takes the next file system.
	if _, err := appliance.MakeUnit(filepath.Join(s.data, "units"), appliance.NewVolume{Bytes: 1 << 30}, time.Now()); err != nil {
		t.Fatal(err)
	}
	u := startUnits(t, w, s.data, s.ip)
	eventually(t, 30*time.Second, "both units serve", func() bool {
		status, err := s.Client.Status(t.Context())
		return err == nil && len(status.Units) == 2 && status.Units[0].State == "serving" && status.Units[1].State == "serving"
	})
	second := s.createFileSystem("second")
	a, b := s.mount(w.guest, s.fs), s.mount(w.guest, second)
	must(t, w.guest, "sh", "-c", "mkdir "+a+"/d "+b+"/h && echo one > "+a+"/d/f && echo two > "+b+"/f && sync")

	u.order("stop " + first)
	must(t, w.guest, w.work, "hammer", b+"/h", "3", "1", "0")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	if r, err := w.guest.Run(ctx, "touch", a+"/d/not-now"); err == nil {
		t.Errorf("a stopped unit answered: %+v", r)
	}
	cancel()
	u.order("start " + first)
	if got := must(t, w.guest, "cat", a+"/d/f"); got != "one" {
		t.Fatalf("after the unit's restart: %q", got)
	}
	must(t, w.guest, w.work, "ops", a, "contents", "rename", "fcntl locks")
	must(t, w.guest, "umount", a)
	must(t, w.guest, "umount", b)
	u.end()
	moveUnit(t, w, s, first)
}

// moveUnit copies a unit into the data directory of another daemon, under its own address.
func moveUnit(t *testing.T, w *world, s *server, unit string) {
	t.Helper()
	there := filepath.Join(t.TempDir(), "elsewhere")
	for _, args := range [][]string{
		{"mkdir", "-m", "700", there},
		{"cp", "-p", filepath.Join(s.data, "root.key"), there},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	other := &server{t: t, w: w, ip: w.newAddress(t), data: there, fs: s.fs}
	start := func() {
		d, err := daemon.Start(t.Context(), other.options(nil))
		if err != nil {
			t.Fatal(err)
		}
		other.Daemon = d
	}
	start()
	if err := other.Stop(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", "--sparse=always", filepath.Join(s.data, "units", unit), filepath.Join(there, "units")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	start()
	t.Cleanup(other.stop)
	dir := other.mount(w.guest, s.fs)
	if got := must(t, w.guest, "cat", dir+"/d/f"); got != "one" {
		t.Fatalf("on the other side: %q", got)
	}
	if out, err := other.Command(t.Context(), "status"); err != nil || !strings.Contains(out, unit) {
		t.Fatalf("status does not name the unit: %s, %v", out, err)
	}
}
