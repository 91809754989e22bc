package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/trust/trusttest"
)

// terminal is a pseudo-terminal: what the person sees and types, and what the program has.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	termios, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return termios.Lflag&unix.ECHO != 0
}

// typing types a line each time that echo is off and a prompt was shown.
type typing struct {
	t       *testing.T
	person  *os.File
	program *os.File
	lines   []string
	shown   bytes.Buffer
}

func (p *typing) Write(b []byte) (int, error) {
	p.shown.Write(b)
	if bytes.HasSuffix(b, []byte(": ")) && len(p.lines) > 0 {
		if echoes(p.t, p.program) {
			p.t.Error("what is typed would be shown")
		}
		if _, err := p.person.WriteString(p.lines[0] + "\n"); err != nil {
			p.t.Error(err)
		}
		p.lines = p.lines[1:]
	}
	return len(b), nil
}

func TestPassphraseFromATerminal(t *testing.T) {
	for _, test := range []struct {
		confirm bool
		typed   []string
		want    string
	}{
		{false, []string{"correct horse"}, "correct horse"},
		{true, []string{"correct horse", "correct horse"}, "correct horse"},
		{true, []string{"correct horse", "correct house"}, ""},
	} {
		person, program := terminal(t)
		out := &typing{t: t, person: person, program: program, lines: test.typed}
		got, err := asker(program, out)(t.Context(), test.confirm)
		if string(got) != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%q: %q, %v", test.typed, got, err)
		}
		if strings.Contains(out.shown.String(), "correct") {
			t.Errorf("shown: %q", out.shown.String())
		}
		if !echoes(t, program) {
			t.Error("echo is off for whoever comes next")
		}
	}
}

// Ctrl-C while nobody types gives the terminal back.
func TestPassphraseThatIsNotTyped(t *testing.T) {
	_, program := terminal(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := asker(program, &bytes.Buffer{})(ctx, false); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("said %v", err)
	}
	if !echoes(t, program) {
		t.Error("echo is off for whoever comes next")
	}
}

func TestPassphrasesFromAPipe(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	fmt.Fprintf(out, "one\n%s\ntwo", strings.Repeat("x", maxPassphraseBytes+2))
	out.Close()
	ask := asker(in, &bytes.Buffer{})
	if got, err := ask(t.Context(), true); err != nil || string(got) != "one" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := ask(t.Context(), false); err == nil {
		t.Error("a line without an end was taken")
	}
	if got, err := ask(t.Context(), false); err != nil || string(got) != "x" {
		t.Errorf("the rest of the long line: %q, %v", got, err)
	}
	if got, err := ask(t.Context(), false); err != nil || string(got) != "two" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := ask(t.Context(), false); err == nil {
		t.Errorf("%q after the end", got)
	}
}

// The daemon itself, with a passphrase in a file and one that it is handed on standard input.
func TestDaemonWithAPassphrase(t *testing.T) {
	dir, file := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, dir, "-root", "passphrase:"+file)
	if status := d.signal(t, unix.SIGTERM); status != exitOK {
		t.Fatalf("SIGTERM: status %d\n%s", status, d.stderr)
	}
	if log := d.stderr.String(); !strings.Contains(log, `"root of trust"`) || strings.Contains(log, "horse") {
		t.Errorf("the log: %s", log)
	}
	_, stderr, status := output(t, "-check", "-data", dir)
	if status != exitFailure || !strings.Contains(stderr, "-root passphrase:") {
		t.Errorf("without it: status %d, %s", status, stderr)
	}
	for line, want := range map[string]int{"correct horse battery\n": exitOK, "wrong horse battery\n": exitFailure} {
		cmd := daemonCommand("-check", "-data", dir, "-root", "passphrase:-")
		cmd.Stdin = strings.NewReader(line)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%q: status %d\n%s", line, got, out)
		}
	}
	if _, stderr, status := output(t, "-root", "file:/a", "-key-file", "/b"); status != exitUsage || !strings.Contains(stderr, "two were named") {
		t.Errorf("two roots: status %d, %s", status, stderr)
	}
}

// The daemon with a TPM, which is emulated: the recovery key goes into its file, once, and nowhere else.
func TestDaemonWithATPM(t *testing.T) {
	dir, file := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "recovery")
	p := trusttest.StartTPM(t)
	if _, stderr, status := output(t, flagsFor(dir, "-root", "tpm:"+p.Socket)...); status != exitFailure || !strings.Contains(stderr, "-recovery-file") {
		t.Errorf("without a terminal: status %d, %s", status, stderr)
	}
	d := startDaemon(t, dir, "-root", "tpm:"+p.Socket, "-tpm-pcrs", "7", "-recovery-file", file)
	if status := d.signal(t, unix.SIGTERM); status != exitOK {
		t.Fatalf("SIGTERM: status %d\n%s", status, d.stderr)
	}
	key, err := os.ReadFile(file)
	if err != nil || len(key) != 70 || strings.Contains(d.stderr.String(), string(key[:9])) || strings.Contains(strings.Join(d.banner, ""), string(key[:9])) {
		t.Errorf("a recovery key of %d bytes, %v\n%s", len(key), err, d.stderr)
	}
	p.Extend(7, "another system")
	_, stderr, status := output(t, "-check", "-data", dir, "-root", "tpm:"+p.Socket)
	if status != exitFailure || !strings.Contains(stderr, "PCR 7") || !strings.Contains(stderr, "-root recovery:PATH") {
		t.Errorf("another system: status %d, %s", status, stderr)
	}
	if stdout, stderr, status := output(t, "-check", "-data", dir, "-root", "recovery:"+file); status != exitOK {
		t.Errorf("recovery: status %d, %s%s", status, stdout, stderr)
	}
	second := file + "2"
	var stdout string
	stdout, stderr, status = output(t, "-data", dir, "-root", "recovery:"+file, "-move-root", "tpm:"+p.Socket, "-recovery-file", second)
	if status != exitOK || !strings.Contains(stdout, "Start the daemon with -root tpm:"+p.Socket) {
		t.Errorf("-move-root: status %d, %s%s", status, stdout, stderr)
	}
	for root, want := range map[string]int{"tpm:" + p.Socket: exitOK, "recovery:" + second: exitOK, "recovery:" + file: exitFailure} {
		if stdout, stderr, status := output(t, "-check", "-data", dir, "-root", root); status != want {
			t.Errorf("%s: status %d, %s%s", root, status, stdout, stderr)
		}
	}
	if _, _, status := output(t, "-root", "tpm:"+p.Socket, "-tpm-pcrs", "seven"); status != exitUsage {
		t.Errorf("-tpm-pcrs seven: status %d", status)
	}
}

func TestRecoveryKeyIsShown(t *testing.T) {
	var out bytes.Buffer
	if err := printRecovery(&out, "ABCD-EFGH"); err != nil || strings.Count(out.String(), "ABCD-EFGH") != 1 {
		t.Errorf("%s, %v", out.String(), err)
	}
	_, program := terminal(t)
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if !isTerminal(program) || isTerminal(file) {
		t.Error("a terminal is not told from a file")
	}
}
