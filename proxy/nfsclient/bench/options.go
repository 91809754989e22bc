package bench

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// Target is one server to measure.
type Target struct {
	Name string
	// Address is what Dial is given.
	Address string
	// Dial connects to it: plain TCP, TLS, or anything else.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Dir is the path of the directory to work in; "" is the root.
	Dir string
	// Client is how the benchmark introduces itself; it must be allowed to write in Dir.
	Client nfsclient.Options
	// Processes are those whose processor time is the target's; none: it is not measured.
	Processes []int
	// Temporary says that the file system is deleted afterwards: what is made there needs no removing.
	Temporary bool
}

// Goal is what Ratio must be at least, or CPURatio at most: one of the two limits is set.
type Goal struct {
	Workload  string
	Target    string
	Reference string
	AtLeast   float64
	CPUAtMost float64
}

// Options say what is measured.
type Options struct {
	Targets   []Target
	Workloads []string // by name, of Workloads and More; empty: all of Workloads
	Goals     []Goal

	Rounds   int           // of all workloads on all targets; odd, for a median
	Duration time.Duration // of one measurement of reads, writes and attributes
	// FileBytes is the size of the file that is read and written, a multiple of 1 MiB.
	FileBytes int64
	Files     int // to create and remove in one measurement
	Entries   int // of the directory to list

	// Progress is told what was measured, in words; nil tells nobody.
	Progress func(line string)
}

// Defaults of Options.
const (
	DefaultRounds    = 3
	DefaultDuration  = 2 * time.Second
	DefaultFileBytes = 256 << 20
	DefaultFiles     = 2000
	DefaultEntries   = 10_000
)

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	if len(o.Workloads) == 0 {
		o.Workloads = Workloads()
	}
	if o.Rounds == 0 {
		o.Rounds = DefaultRounds
	}
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	if o.FileBytes == 0 {
		o.FileBytes = DefaultFileBytes
	}
	if o.Files == 0 {
		o.Files = DefaultFiles
	}
	if o.Entries == 0 {
		o.Entries = DefaultEntries
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
}

// Validate says what makes no sense, after EnsureDefaults.
func (o *Options) Validate() error {
	if len(o.Targets) == 0 {
		return fmt.Errorf("bench: no target")
	}
	names := make(map[string]bool)
	for _, t := range o.Targets {
		if t.Name == "" || t.Dial == nil || names[t.Name] {
			return fmt.Errorf("bench: target %q has no name, no way to it, or comes twice", t.Name)
		}
		names[t.Name] = true
	}
	for _, name := range o.Workloads {
		if _, ok := findWorkload(name); !ok {
			return fmt.Errorf("bench: no workload is called %q; there are %v and %v", name, Workloads(), More())
		}
	}
	for _, g := range o.Goals {
		if (g.AtLeast > 0) == (g.CPUAtMost > 0) {
			return fmt.Errorf("bench: goal for %s has not one limit", g.Workload)
		}
		if !names[g.Target] || !names[g.Reference] {
			return fmt.Errorf("bench: goal for %s compares %q with %q, which are not both targets",
				g.Workload, g.Target, g.Reference)
		}
	}
	if o.FileBytes < 1<<20 || o.FileBytes%(1<<20) != 0 {
		return fmt.Errorf("bench: FileBytes %d is not a multiple of 1 MiB", o.FileBytes)
	}
	if o.Rounds < 1 || o.Files < 1 || o.Entries < 1 || o.Duration < time.Millisecond {
		return fmt.Errorf("bench: rounds, files, entries and duration must be positive")
	}
	return nil
}
