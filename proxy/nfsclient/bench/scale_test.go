package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestScaleAgainstGanesha(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("nfs-ganesha needs root; `make test` as root runs this")
	}
	p, err := StartGanesha(t.Context(), GaneshaOptions{Dir: t.TempDir()})
	if errors.Is(err, ErrNotInstalled) {
		t.Skipf("%v; `make test` installs it", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	processes, err := p.Processes()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Scale(t.Context(), ScaleOptions{
		Target:  Target{Name: "ganesha", Address: p.Addr, Dial: dial, Processes: processes},
		Peers:   []Target{{Name: "again", Address: p.Addr, Dial: dial, Processes: processes}},
		Clients: []int{1, 7}, Each: 3, Files: []int{20, 300}, Duration: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Groups) != 3 || len(s.Groups[0].Series) != 4 || len(s.Groups[1].Series) != 4 || len(s.Groups[2].Series) != 3 {
		t.Fatalf("%+v", s)
	}
	for _, one := range slices.Concat(s.Groups[0].Series, s.Groups[1].Series, s.Groups[2].Series) {
		if len(one.Points) != 2 || one.Points[0].N >= one.Points[1].N || one.Points[1].OpsPerSecond <= 0 {
			t.Errorf("%+v", one)
		}
	}
}

// TestLoad counts the calls that each client has under way, where each has its own, and all together where they share.
func TestLoad(t *testing.T) {
	const n = 10
	each := load{each: 4}
	count := map[int]int{}
	for worker := range each.depth(n) {
		client := each.of(n, worker, 0)
		for i := range 100 {
			if got := each.of(n, worker, i); got != client {
				t.Fatalf("worker %d calls for client %d and for %d", worker, client, got)
			}
		}
		count[client]++
	}
	if len(count) != n || count[0] != 4 || count[n-1] != 4 || each.slots() < 4 {
		t.Errorf("calls of each client: %v", count)
	}
	together := load{total: 32}
	if together.depth(n) != 32 || together.depth(1000) != 32 || together.slots() < 32 {
		t.Errorf("%d calls of %d clients, %d of 1000", together.depth(n), n, together.depth(1000))
	}
	clear(count)
	for i := range 100 {
		count[together.of(n, i%32, i)]++
	}
	if len(count) != n || count[0] != 10 {
		t.Errorf("of 100 calls each client has %v", count)
	}
}

func TestPlot(t *testing.T) {
	s := &Scaling{Groups: []Group{
		{"clients", []Series{{"GETATTR & more", []Point{{1, 1e4, 8 * time.Microsecond}, {1000, 1e4, 90 * time.Microsecond}}}}},
		{"files", []Series{{"create", []Point{{1000, 1e4, 0}, {1_000_000, 1e4, 150 * time.Microsecond}}}}},
	}}
	var svg, table bytes.Buffer
	if err := errors.Join(s.Plot(&svg), s.Print(&table)); err != nil {
		t.Fatal(err)
	}
	circles, decoder := 0, xml.NewDecoder(bytes.NewReader(svg.Bytes()))
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "circle" {
			circles++
		}
	}
	if circles != 4 || strings.Contains(svg.String(), "NaN") || strings.Contains(svg.String(), "Inf") {
		t.Errorf("%d points:\n%s", circles, svg.String())
	}
	if lines := strings.Count(table.String(), "\n"); lines != 6 {
		t.Errorf("%d lines:\n%s", lines, table.String())
	}
	var none bytes.Buffer
	if err := new(Scaling).Plot(&none); err != nil || !strings.HasSuffix(none.String(), "</svg>\n") {
		t.Errorf("of nothing: %v\n%s", err, none.String())
	}
}

func TestScaleOptions(t *testing.T) {
	good := Target{Name: "x", Dial: dial, Processes: []int{1}}
	for name, o := range map[string]ScaleOptions{
		"no target":         {},
		"no processes":      {Target: Target{Dial: dial}},
		"files do not rise": {Target: good, Files: []int{10, 10}},
		"no clients":        {Target: good, Clients: []int{0}},
		"peer without any":  {Target: good, Peers: []Target{{Name: "y", Dial: dial}}},
		"too many calls":    {Target: good, Each: 65},
	} {
		o.EnsureDefaults()
		if o.Validate() == nil {
			t.Error(name)
		}
	}
}
