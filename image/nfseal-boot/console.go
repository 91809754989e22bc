package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
	"golang.org/x/sys/unix"
)

const (
	// lookEvery is how often it is looked whether something has changed.
	lookEvery = 2 * time.Second
	// askTimeout bounds each question to the daemon.
	askTimeout = 5 * time.Second
	// front is where the daemon answers signed calls, as its unit has it.
	front = "127.0.0.1:2051"
	// caFile is what clients trust the daemon by. It is no secret.
	caFile = dataDir + "/pki/ca.pem"
)

// A view is what the console shows.
type view struct {
	name      string // of the machine
	state     string
	addresses []string
	parts     []api.Feature // what of the daemon's is worth to be known here
	apiPrint  string        // SHA-256 of the API's certificate, "" while there is none
	caPrint   string
	started   string // see startedBy, "" while that is not known
	door      *door  // to the maintenance API, nil without one
}

// shownParts are the parts of the daemon that are shown, and how they are called.
var shownParts = map[string]string{
	"root of trust": "root key", "XDP gate": "gate", "sk_lookup steering": "steering", "kernel TLS": "kernel TLS",
}

// text is the view for people.
func (v view) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nnfseal %s\n", version)
	if v.name != "" {
		fmt.Fprintf(&b, "  name             %s\n", v.name)
	}
	fmt.Fprintf(&b, "  state            %s\n", v.state)
	for _, a := range v.addresses {
		fmt.Fprintf(&b, "  address          %s\n", a)
	}
	if len(v.addresses) == 0 {
		fmt.Fprintf(&b, "  address          none yet\n")
	}
	if v.started != "" {
		fmt.Fprintf(&b, "  Secure Boot      %s\n", v.started)
	}
	for _, p := range v.parts {
		detail := p.Detail
		if !p.On {
			detail = "off: " + detail
		}
		fmt.Fprintf(&b, "  %-16s %s\n", shownParts[p.Name], detail)
	}
	if d := v.door; d != nil {
		for _, a := range v.addresses {
			fmt.Fprintf(&b, "  maintenance      nfseal install disks --to %s\n", a)
		}
		fmt.Fprintf(&b, "  certificate      SHA-256 %s\n  code             %s\n", d.Fingerprint, d.Code)
	}
	if v.apiPrint == "" {
		return b.String() + menuText(v.door != nil)
	}
	for _, a := range v.addresses {
		fmt.Fprintf(&b, "  API              https://%s\n", net.JoinHostPort(a, "2051"))
	}
	fmt.Fprintf(&b, "  API certificate  SHA-256 %s\n  CA certificate   SHA-256 %s\n", v.apiPrint, v.caPrint)
	return b.String() + menuText(v.door != nil)
}

// showConsole shows the view whenever it has changed, and answers what is typed.
func showConsole(ctx context.Context) error {
	client := api.NewClient(filepath.Join(dataDir, "api.sock"))
	defer client.Close()
	names, err := consoles()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	lines, wait := readLines(ctx, names, "/dev")
	defer wait()
	defer cancel()
	m := &menu{door: openDoor, power: leavePower}
	shown, started := "", ""
	for ctx.Err() == nil {
		v, serving := look(ctx, client)
		if started == "" { // it stays as it is until the machine stops
			started = startedBy("/sys")
		}
		v.started = started
		if text := v.text(); text != shown && m.next == nil { // not into the midst of a question
			if err := print(text); err != nil {
				return err
			}
			shown = text
		}
		if err := showRecovery(daemonDir, print); err != nil {
			fmt.Fprintln(os.Stderr, "nfseal-boot: recovery key:", err)
		}
		if serving {
			if err := introduce(ctx, client, stateDir, caFile, print); err != nil {
				fmt.Fprintln(os.Stderr, "nfseal-boot: first administrator:", err)
			}
		}
		said := m.watch(ctx)
		select {
		case <-ctx.Done():
			return nil
		case line := <-lines:
			text, again := m.answer(ctx, line)
			said += text
			if again {
				shown = ""
			}
		case <-time.After(lookEvery):
		}
		if said != "" {
			if err := print(said); err != nil {
				return err
			}
		}
	}
	return nil
}

// look asks all who know something. What is not there yet is left out.
func look(ctx context.Context, client *api.Client) (v view, serving bool) {
	v.name, _ = os.Hostname() // "" where the kernel does not tell
	v.addresses = addresses()
	r, err := readReport(runDir)
	if err != nil {
		v.state = "looking for disks"
		return v, false
	}
	if !r.Ready {
		v.state = "waiting for a disk: " + r.Detail
		if d, err := readDoor(runDir); err == nil {
			v.door = &d
		}
		return v, false
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	status, err := client.Status(ctx)
	if err != nil {
		v.state = notServing(daemonDir)
		return v, false
	}
	v.state = describe(status, r.Disk)
	for _, f := range status.Features {
		if shownParts[f.Name] != "" {
			v.parts = append(v.parts, f)
		}
	}
	v.apiPrint, v.caPrint = fingerprints(ctx)
	return v, true
}

// describe says in words how the daemon is.
func describe(s api.Status, disk string) string {
	for _, u := range s.Units {
		if u.Reason != "" {
			return fmt.Sprintf("the unit %s is %s: %s", u.ID, u.State, u.Reason)
		}
	}
	return fmt.Sprintf("serving, file systems: %d; data on %s", len(s.FileSystems), disk)
}

// notServing says what a daemon does that does not answer: what it has left in dir tells.
func notServing(dir string) string {
	why, err := os.ReadFile(filepath.Join(dir, "failure"))
	if err != nil || len(why) == 0 {
		return "the daemon is starting"
	}
	return "the daemon does not serve: " + strings.TrimSpace(string(why))
}

// showRecovery shows the recovery key that the daemon has left in dir, and then destroys it: it opens what the TPM
// keeps, and is on no disk.
func showRecovery(dir string, say func(string) error) error {
	key, err := os.ReadFile(recoveryFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := say(fmt.Sprintf("\nThe recovery key, for when the TPM refuses. It is shown only this once: write it down.\n  %s\n", strings.TrimSpace(string(key)))); err != nil {
		return err
	}
	return os.Remove(recoveryFile(dir))
}

func readReport(dir string) (report, error) {
	var r report
	text, err := os.ReadFile(reportFile(dir))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

// addresses are those at which others can reach the machine.
func addresses() []string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var reachable []string
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			reachable = append(reachable, p.Addr().String())
		}
	}
	return reachable
}

// fingerprints are of the API's certificate, as a client gets it, and of the CA.
func fingerprints(ctx context.Context) (apiPrint, caPrint string) {
	// It is the certificate itself that is wanted, whoever signed it.
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
	conn, err := d.DialContext(ctx, "tcp", front)
	if err != nil {
		return "", ""
	}
	defer conn.Close()
	ca, err := os.ReadFile(caFile)
	block, _ := pem.Decode(ca)
	if err != nil || block == nil {
		return "", ""
	}
	return fingerprint(conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw), fingerprint(block.Bytes)
}

// fingerprint is written as openssl and browsers do.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return strings.ReplaceAll(strings.TrimSpace(fmt.Sprintf("% X", sum[:])), " ", ":")
}

// allowed is the policy of the first administrator.
const allowed = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

const administrator = "admin"

// introduce makes the first administrator and says its key, and the CA's certificate, once in the life of a
// STATE partition, whose directory is dir. The key is shown before it is noted that it was: who saw none after
// a loss of power gets another one.
func introduce(ctx context.Context, client *api.Client, dir, ca string, say func(string) error) error {
	note := filepath.Join(dir, "administrator")
	_, err := os.Stat(note)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	users, err := client.Users(ctx)
	if err != nil {
		return err
	}
	if len(users) == 0 {
		if err := client.CreateUser(ctx, administrator); err != nil {
			return err
		}
	}
	if err := client.PutUserPolicy(ctx, administrator, "all", allowed); err != nil {
		return err
	}
	certificate, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	key, err := client.CreateAccessKey(ctx, administrator)
	if err != nil {
		return err
	}
	if err := say(introduction(key, string(certificate))); err != nil {
		return err
	}
	return os.WriteFile(note, []byte(key.AccessKeyID+"\n"), 0o600)
}

func introduction(key api.AccessKeyDescription, certificate string) string {
	return fmt.Sprintf("\nThe CA's certificate, for clients:\n\n%s\n"+
		"The first administrator's key. It is shown only this once: make another one, and delete it.\n"+
		"  AWS_ACCESS_KEY_ID=%s\n  AWS_SECRET_ACCESS_KEY=%s\n", certificate, key.AccessKeyID, key.SecretAccessKey)
}

// consoles are the names of those that the kernel writes to.
func consoles() ([]string, error) {
	active, err := os.ReadFile("/sys/class/tty/console/active")
	return strings.Fields(string(active)), err
}

// print writes to every console.
func print(text string) error {
	names, err := consoles()
	if err != nil {
		return err
	}
	return printTo(names, "/dev", text)
}

// printTo writes to those that are there; one is enough.
func printTo(names []string, dev, text string) error {
	err := errors.New("there is no console")
	for _, name := range names {
		// It must neither become this process's terminal nor wait for a line to be there.
		f, openErr := os.OpenFile(filepath.Join(dev, name), os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if openErr != nil {
			continue
		}
		_, writeErr := io.WriteString(f, text)
		if errors.Join(writeErr, f.Close()) == nil {
			err = nil
		}
	}
	return err
}
