package steer

import (
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Stats say what the program does and did.
type Stats struct {
	ProgramID uint32 `json:"program_id"`
	Port      uint16 `json:"port"`
	// Sockets are open listening sockets, of Slots. Equal unless a worker's socket was closed.
	Sockets int `json:"sockets"`
	Slots   int `json:"slots"`
	// Superseded says that another process has taken over.
	Superseded bool `json:"superseded"`
	// Runs and RunTime are of the program, for all TCP ports and addresses, while somebody measured:
	// see Measure.
	Runs    uint64        `json:"runs"`
	RunTime time.Duration `json:"run_time_ns"`
	// Targets are sorted by address.
	Targets []TargetStats `json:"targets"`
}

// TargetStats count the connections to a mount target address since it was set.
type TargetStats struct {
	Address netip.Addr `json:"address"`
	// Steered were given to a listening socket; Refused could not be, because there was none.
	Steered uint64 `json:"steered"`
	Refused uint64 `json:"refused"`
}

// PerRun is how long the program took on average, 0 if nobody measured.
func (s *Stats) PerRun() time.Duration {
	if s.Runs == 0 {
		return 0
	}
	return s.RunTime / time.Duration(s.Runs)
}

// Measure has the kernel count and time the runs of all BPF programs, until it is closed. It costs
// some ten nanoseconds a run.
func Measure() (io.Closer, error) {
	c, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	return c, translate("measure", err)
}

// Stats reads the counters.
func (s *Steer) Stats() (Stats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Stats{}, ErrClosed
	}
	var st Stats
	if err := s.programStats(&st); err != nil {
		return st, err
	}
	c, err := s.settings()
	if err != nil {
		return st, err
	}
	st.Port, st.Slots = uint16(c.Port), int(c.Slots)
	st.Superseded = s.generation != 0 && c.Generation != s.generation
	for slot := range c.Slots {
		cookie, err := s.cookieIn(slot)
		if err != nil {
			return st, err
		}
		if cookie != 0 {
			st.Sockets++
		}
	}
	st.Targets, err = s.targetStats()
	return st, err
}

func (s *Steer) programStats(st *Stats) error {
	info, err := s.objects.Steer.Info()
	if err != nil {
		return translate("program", err)
	}
	id, _ := info.ID()
	st.ProgramID = uint32(id)
	stats, err := s.objects.Steer.Stats()
	if err != nil {
		return translate("program statistics", err)
	}
	st.Runs, st.RunTime = stats.RunCount, stats.Runtime
	return nil
}

func (s *Steer) targetStats() ([]TargetStats, error) {
	have, err := s.readTargets()
	if err != nil {
		return nil, err
	}
	targets := make([]TargetStats, 0, len(have))
	for k, processors := range have {
		t := TargetStats{Address: addressOf(&k)}
		for _, c := range processors {
			t.Steered += c.Steered
			t.Refused += c.Refused
		}
		targets = append(targets, t)
	}
	slices.SortFunc(targets, func(a, b TargetStats) int { return a.Address.Compare(b.Address) })
	return targets, nil
}
