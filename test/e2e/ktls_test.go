package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

// tlsCounters reads the kernel's counters of TLS sessions.
func tlsCounters(t *testing.T, w *world) map[string]int {
	t.Helper()
	counters := make(map[string]int)
	for line := range strings.Lines(must(t, w.guest, "cat", "/proc/net/tls_stat")) {
		if fields := strings.Fields(line); len(fields) == 2 {
			counters[fields[0]], _ = strconv.Atoi(fields[1])
		}
	}
	return counters
}

// guestTests runs the tests of a package, or those of them that match, in the guest, whose kernel has TLS.
func guestTests(t *testing.T, w *world, pkg, run string, env ...string) string {
	t.Helper()
	binary := filepath.Join(w.bin, filepath.Base(pkg)+".test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-trimpath", "-o", binary, "github.com/nfseal/nfseal/"+pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out bytes.Buffer
	code, err := w.guest.Exec(ctx, uml.Command{
		Args: []string{binary, "-test.v", "-test.timeout=4m", "-test.run=" + run}, Dir: "/tmp",
		Env: append(env, "NFSEAL_KTLS=require"), Stdout: &out, Stderr: &out,
	})
	if err != nil || code != 0 {
		t.Fatalf("%s in the guest: status %d, %v\n%s", pkg, code, err, failures(out.String()))
	}
	return out.String()
}

// failures leaves out what went well.
func failures(output string) string {
	var kept strings.Builder
	for line := range strings.Lines(output) {
		if text := strings.TrimSpace(line); !strings.HasPrefix(text, "=== RUN") && !strings.HasPrefix(text, "--- PASS") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// The suite of sessions, which has run in user space elsewhere, runs where the kernel carries them: against
// crypto/tls, OpenSSL and records that are wrong. The kernel says how many it carried.
func TestKernelTLS(t *testing.T) {
	w := getWorld(t)
	before := tlsCounters(t, w)
	out := guestTests(t, w, "proxy/ktls", "./kernel")
	after := tlsCounters(t, w)
	for _, name := range []string{"TlsTxSw", "TlsRxSw"} {
		if n := after[name] - before[name]; n < 60 {
			t.Errorf("%s rose by %d only", name, n)
		}
	}
	for _, version := range []string{"1.2", "1.3"} {
		for _, test := range []string{
			"Sessions/%s/BothWays", "Sessions/%s/OpenSSLServer", "Sessions/%s/OpenSSLClient", "Sessions/%s/NoAllocation",
			"Sessions/%s/Move", "HostileRecords/%s", "KeyUpdate/%s",
		} {
			if want := fmt.Sprintf("--- PASS: Test"+test+" ", "kernel,_TLS_"+version); !strings.Contains(out, want) {
				t.Errorf("not run: %q", want)
			}
		}
	}
	t.Logf("before %v, after %v", before, after)
}

// The daemon itself runs where the kernel has TLS, and its client beside it: what the client writes and reads goes
// through a session that the kernel carries for the daemon.
func TestDaemonWithKernelTLS(t *testing.T) {
	w := getWorld(t)
	g, data := w.guest, "/tmp/kernel-tls"
	before := tlsCounters(t, w)
	log := startInGuest(t, w, data, "-tls12-only", "-ktls", "on")
	nfseal := []string{"env", "NFSEAL_SOCKET=" + filepath.Join(data, "api.sock"), filepath.Join(w.bin, "nfseal")}
	fs := fileSystemID.FindString(must(t, g, append(nfseal, "fs", "create", "--name", "carried")...))
	mount := []string{
		"mount", "-t", "nfseal", "-o", "tls,mounttargetip=127.0.0.1,cafile=" + filepath.Join(data, "pki/ca.pem"), fs + ":/", "/mnt/carried",
	}
	must(t, g, "mkdir", "/mnt/carried")
	must(t, g, mount...)
	sum := must(t, g, "sh", "-c", "head -c 5000001 /dev/urandom > /tmp/made && cp /tmp/made /mnt/carried/file && sha256sum < /tmp/made")
	if now := tlsCounters(t, w); now["TlsCurrTxSw"] <= before["TlsCurrTxSw"] || now["TlsCurrRxSw"] <= before["TlsCurrRxSw"] {
		t.Errorf("the kernel carries no session while the file system is mounted: before %v, now %v", before, now)
	}
	if line := opened(log.String(), fs); !strings.Contains(line, "TLS 1.2") {
		t.Errorf("the client's connection is not of TLS 1.2, though -tls12-only was given: %q", line)
	}
	must(t, g, "umount", "/mnt/carried") // and with it what the client has cached
	must(t, g, mount...)
	if got := must(t, g, "sh", "-c", "sha256sum < /mnt/carried/file"); got != sum {
		t.Errorf("read %s, wrote %s", got, sum)
	}
	must(t, g, "umount", "/mnt/carried")
	features := must(t, g, append(nfseal, "check")...)
	if !strings.Contains(regexpFind(features, `(?m)^.*kernel TLS.*$`), "TLS 1.2") {
		t.Errorf("nfseal check does not say that the kernel carries TLS 1.2:\n%s", features)
	}
	metrics := must(t, g, "curl", "--silent", "--fail", "--unix-socket", filepath.Join(data, "api.sock"), "http://nfseal/metrics")
	if carried := regexpFind(metrics, `(?m)^nfseal_tls_sessions_total\{carrier="kernel",reason=""\} [1-9]`); carried == "" {
		t.Errorf("no session is counted:\n%s", regexpFind(metrics, `(?m)^nfseal_tls_sessions_total.*$`))
	}
}

// The client's tunnel runs where the kernel has TLS, the server where it has not: sessions of both versions are carried
// by the client's kernel, and what an application writes and reads goes through. With ktls=off nothing does.
func TestTunnelWithKernelTLS(t *testing.T) {
	w := getWorld(t)
	g := w.guest
	guestTests(t, w, "proxy/tunnel", "/kernel")
	for name, daemon := range map[string][]string{"TLS 1.2": {"-tls12-only"}, "TLS 1.3": nil} {
		t.Run(name, func(t *testing.T) { tunnelWithKernelTLS(t, w, daemon) })
	}
	log := must(t, g, "grep", "TLS sessions are carried", "/var/log/nfseal/mount.log")
	if !strings.Contains(log, "kernel") || !strings.Contains(log, "user space") {
		t.Errorf("the log does not say who carries sessions:\n%s", log)
	}
}

// TestKernelTLSRatios runs the measurement in the guest and prints what it says.
func TestKernelTLSRatios(t *testing.T) {
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("a measurement: runs in make bench-ktls")
	}
	for line := range strings.Lines(guestTests(t, getWorld(t), "proxy/tunnel", "^TestKernelTLSRatios$", "NFSEAL_LONG=1")) {
		if !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") && line != "PASS\n" {
			fmt.Print(line)
		}
	}
}

func tunnelWithKernelTLS(t *testing.T, w *world, daemon []string) {
	s, g := startServer(t, w, daemon...), w.guest
	before := tlsCounters(t, w)
	dir := s.mount(g, s.fs, "ktls=on")
	sum := must(t, g, "sh", "-c", "head -c 5000001 /dev/urandom > /tmp/made && cp /tmp/made "+dir+"/file && sha256sum < /tmp/made")
	now := tlsCounters(t, w)
	for _, counter := range []string{"TlsTxSw", "TlsRxSw", "TlsCurrTxSw", "TlsCurrRxSw"} {
		if now[counter] <= before[counter] {
			t.Errorf("%s is %d and was %d", counter, now[counter], before[counter])
		}
	}
	// A pipe is two descriptors, and each direction has one.
	pipes := must(t, g, "sh", "-c", "for p in $(pgrep -f '^mount.nfseal tunnel'); do ls -l /proc/$p/fd; done | grep -c pipe:")
	if n, err := strconv.Atoi(pipes); err != nil || n < 4 {
		t.Errorf("%s descriptors of pipes", pipes)
	}
	must(t, g, "umount", dir) // and with it what the client has cached
	must(t, g, s.mountArgs(s.fs, dir, "ktls=on")...)
	if got := must(t, g, "sh", "-c", "sha256sum < "+dir+"/file"); got != sum {
		t.Errorf("read %s, wrote %s", got, sum)
	}
	if daemon != nil {
		return
	}
	now = tlsCounters(t, w)
	must(t, g, "umount", dir)
	must(t, g, s.mountArgs(s.fs, dir, "ktls=off")...)
	if got := must(t, g, "sh", "-c", "sha256sum < "+dir+"/file"); got != sum {
		t.Errorf("in user space: read %s, wrote %s", got, sum)
	}
	if off := tlsCounters(t, w); off["TlsTxSw"] != now["TlsTxSw"] {
		t.Errorf("ktls=off: TlsTxSw is %d and was %d", off["TlsTxSw"], now["TlsTxSw"])
	}
}

// startInGuest runs the daemon in the client, on its loopback interface, until the end of the test, and gives its log.
func startInGuest(t *testing.T, w *world, data string, args ...string) *lineCounter {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := new(lineCounter)
	args = append([]string{
		filepath.Join(w.bin, "nfseald"), "-data", data, "-volume-size", "128MiB", "-memory", "64MiB",
		"-listen", "127.0.0.1:2049", "-ocsp-listen", "127.0.0.1:2050", "-advertise", "127.0.0.1",
	}, args...)
	ended := make(chan error, 1)
	go func() {
		_, err := w.guest.Exec(ctx, uml.Command{Args: args, Stdout: log, Stderr: log})
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		<-ended // with the error that it was ended
		if t.Failed() {
			t.Log(log.String())
		}
	})
	eventually(t, time.Minute, "the daemon serves", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the daemon has ended: %v\n%s", err, log.String())
		default:
		}
		return strings.Contains(log.String(), "NFS is served at")
	})
	return log
}
