package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

// killRounds is how often somebody is killed: 15 times, or 1,000 in a long run, unless NFSEAL_KILLS says otherwise.
func killRounds(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("NFSEAL_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if os.Getenv("NFSEAL_LONG") != "" {
		return 1_000
	}
	return 15
}

// Tunnel, supervisor and server are killed at random moments, two of them at once now and then, under random operations
// that are checked against a model: the application sees a pause, never an error, and no tunnel is lost.
func TestKillsOfTunnelSupervisorAndServer(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	g := w.anotherClient(t)
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	kernelTLS := []string{"on", "off"}[rng.IntN(2)] // who carries sessions, the client's kernel or the tunnel
	if wish := os.Getenv("NFSEAL_KTLS"); wish != "" {
		kernelTLS = wish
	}
	t.Logf("seed %d, ktls=%s", seed, kernelTLS)
	dir := s.mount(g, s.fs, "ktls="+kernelTLS)
	rounds, done := killRounds(t), 0
	count := map[string]int{}
	for batch := 0; done < rounds; batch++ {
		// The model in memory starts afresh with each batch, and everything is compared at its end.
		ended := make(chan error, 1)
		go func() { ended <- hammerFor(t, w, g, dir, min(rounds-done, 60), seed+uint64(batch)) }()
		for hammering := true; hammering; {
			select {
			case err := <-ended:
				if err != nil {
					t.Fatalf("after %d kills %v: %v", done, count, err)
				}
				hammering = false
				t.Logf("%d kills so far: %v\n%s", done, count, guestResources(t, g))
			case <-time.After(time.Duration(rng.IntN(1500)) * time.Millisecond):
				count[killOne(t, g, s, rng)]++
				done++
			}
		}
	}
	must(t, g, "umount", dir)
	eventually(t, 90*time.Second, "the tunnel ends with its mount", func() bool {
		r, err := g.Run(t.Context(), "pgrep", "-af", "mount.nfseal tunnel")
		return err == nil && r.Stdout == ""
	})
}

// guestResources is what a client has left of its memory, and what its sockets and processes are.
func guestResources(t *testing.T, g *uml.Guest) string {
	t.Helper()
	return must(t, g, "sh", "-c", `free -m; df -m /run; cat /proc/net/sockstat; echo $(ls -d /proc/[0-9]* | wc -l) processes`)
}

// killOne kills one at random, and says whom.
func killOne(t *testing.T, g *uml.Guest, s *server, rng *rand.Rand) string {
	t.Helper()
	switch n := rng.IntN(20); {
	case n < 8:
		return killIn(t, g, "tunnel")
	case n < 14:
		return killIn(t, g, "supervisor")
	case n < 16:
		return killIn(t, g, "tunnel", "supervisor")
	}
	s.Kill()
	s.restart()
	return "server"
}

// killIn kills processes of the client. The supervisor is whoever holds its lock.
func killIn(t *testing.T, g *uml.Guest, who ...string) string {
	t.Helper()
	var script strings.Builder
	for _, name := range who {
		if name == "tunnel" {
			script.WriteString("pkill -KILL -f '^mount.nfseal tunnel'\n")
			continue
		}
		script.WriteString(`i=$(stat -c %i /run/nfseal/supervisor.lock)
			kill -KILL $(awk -v i=":$i" '$2 == "FLOCK" && index($6, i) { print $5 }' /proc/locks)` + "\n")
	}
	if r, err := run(t, g, "sh", "-c", script.String()); err != nil {
		t.Fatalf("%v: %v", who, err)
	} else if r.Code != 0 {
		return "nobody" // it was dead already
	}
	return strings.Join(who, " and ")
}

// hammerFor runs the workload, which the server may be killed under as often as it likes.
func hammerFor(t *testing.T, w *world, g *uml.Guest, dir string, seconds int, seed uint64) error {
	t.Helper()
	work := fmt.Sprintf("%s/%d", dir, seed)
	if r, err := run(t, g, "mkdir", work); err != nil || r.Code != 0 {
		return fmt.Errorf("mkdir: %v %v", err, r.Err())
	}
	r, err := g.Run(t.Context(), w.work, "hammer", work, strconv.Itoa(seconds), strconv.FormatUint(seed, 10), "1000")
	t.Logf("%s", strings.TrimSpace(r.Stdout))
	if err == nil {
		err = r.Err()
	}
	return err
}
