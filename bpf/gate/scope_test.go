package gate

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
)

// Where only mount targets are judged, each shape for another address passes, and each for a target is judged as
// ever.
func TestScopeOfEachShape(t *testing.T) {
	b := newBench(t, testRules(), ScopeTargets)
	passed := 0
	for _, s := range shapes() {
		verdict, target := b.run(s.frame)
		if verdict == PassOther {
			passed++
			continue
		}
		if verdict != s.verdict || target != s.target {
			t.Errorf("%s: %v of %q, want %v of %q", s.name, verdict, target, s.verdict, s.target)
		}
	}
	for _, s := range shapes() {
		for n := 14; n < len(s.frame); n++ {
			b.run(s.frame[:n])
		}
	}
	if list := b.differences(); list != nil || passed == 0 {
		t.Error(passed, list)
	}
}

// An interface that mount targets share with other services: those go on as they were, and the targets are guarded.
// What is guarded changes at once, and an interface that is not to be guarded any more is let go.
func TestScopeOfTargets(t *testing.T) {
	w := newWorld(t)
	w.serve(w.host, "[::]:2049")
	w.serve(w.host, "[::]:8080")
	o := Options{PinDir: bpffsDir(t)}
	g, _ := w.guard(o, worldRules())
	reach := func(from, to string) error { return w.echo(w.client, "tcp", from, to, 1<<16, late) }
	if reach("203.0.113.9", "10.8.0.1:8080") == nil {
		t.Error("everything is judged, and a stranger reached another service")
	}
	inside(t, w.host, func() {
		_, err := g.Attach("h0", ScopeTargets)
		w.check(err)
	})
	if s := stats(t, g); len(s.Interfaces) != 1 || s.Interfaces[0].Scope != ScopeTargets {
		t.Errorf("interfaces %+v", s.Interfaces)
	}
	for from, to := range map[string]string{"203.0.113.9": "10.8.0.1", "2001:db8:9::5": "fd00:8::1"} {
		if err := w.echo(w.client, "tcp", from, net.JoinHostPort(to, "8080"), 1<<20, soon); err != nil {
			t.Errorf("another service at %s: %v", to, err)
		}
	}
	for from, to := range friends {
		if err := w.echo(w.client, "tcp", from, to, 1<<20, soon); err != nil {
			t.Errorf("allowed source to %s: %v", to, err)
		}
	}
	for from, to := range map[string]string{"203.0.113.9": "10.9.0.1", "2001:db8:9::5": "fd00::1"} {
		for _, port := range []string{"2049", "8080"} {
			if reach(from, net.JoinHostPort(to, port)) == nil {
				t.Errorf("%s was let in to %s, port %s", from, to, port)
			}
		}
	}
	w.check(g.Close())
	inside(t, w.host, func() {
		next := load(t, o)
		apply(t, next, worldRules())
		w.check(next.Keep(nil)) // what the one before has left
	})
	if left, err := os.ReadDir(o.PinDir); err != nil || len(left) != 0 {
		t.Errorf("pins left: %v, %v", left, err)
	}
	if err := w.echo(w.client, "tcp", "203.0.113.9", "10.9.0.1:2049", 8, soon); err != nil {
		t.Errorf("let go, and still: %v", err)
	}
}

// Keep lets go of what is not named, and of interfaces that have gone.
func TestKeep(t *testing.T) {
	inside(t, newNamespace(t), func() {
		g := load(t, Options{PinDir: bpffsDir(t)})
		apply(t, g, worldRules())
		var indexes []int
		for i := range 3 {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = fmt.Sprint("v", i)
			check(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: fmt.Sprint("p", i)}))
			l, err := netlink.LinkByName(attrs.Name)
			check(t, err)
			indexes = append(indexes, l.Attrs().Index)
			_, err = g.Attach(attrs.Name, ScopeTargets)
			check(t, err)
		}
		gone, err := netlink.LinkByName("v1")
		check(t, err)
		check(t, netlink.LinkDel(gone))
		check(t, g.Keep(indexes[1:]))
		if s := stats(t, g); len(s.Interfaces) != 1 || s.Interfaces[0].Name != "v2" {
			t.Errorf("interfaces %+v", s.Interfaces)
		}
		if left, err := os.ReadDir(g.options.PinDir); err != nil || len(left) != 1 {
			t.Errorf("pins %v, %v", left, err)
		}
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
