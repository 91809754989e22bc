package cpuidle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	device   = "/dev/cpu_dma_latency"
	governor = "/sys/devices/system/cpu/cpuidle/current_governor"
	// halting is the governor of virtual machines, which polls when it is asked for a latency of 0.
	halting = "haltpoll\n"

	// burst calls within burstTime are fast: 500 a second and more.
	burst     = 16
	burstTime = 32 * time.Millisecond
	// With fewer than enough calls in lookEvery the processors may be halted again.
	lookEvery = 5 * time.Millisecond
	enough    = 3

	// noRequest is what the kernel has for an open file that asks for nothing: 2,000 s, in microseconds.
	noRequest = 2000 * 1000 * 1000
)

// ErrNoUse says that asking would change nothing on this machine.
var ErrNoUse = errors.New("cpuidle: the kernel's governor of idle processors is not haltpoll")

// Keeper asks for processors that are not halted. Its methods may be called by many goroutines.
type Keeper struct {
	calls atomic.Uint64
	since atomic.Int64 // when the present burst began, by clock
	on    atomic.Bool
	clock func() time.Duration

	mu     sync.Mutex
	out    io.WriteCloser // nil after Close
	timer  *time.Timer
	seen   uint64 // calls at the last look
	asked  uint64 // how often it was asked for
	failed error  // why it is not asked for any more
}

// New opens the kernel's interface, and asks for nothing yet. The errors are ErrNoUse, and that of opening:
// only root may.
func New() (*Keeper, error) {
	name, err := os.ReadFile(governor)
	if err != nil || string(name) != halting {
		return nil, fmt.Errorf("%w (%q)", ErrNoUse, strings.TrimSpace(string(name)))
	}
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("cpuidle: %w", err)
	}
	k := newKeeper(f)
	return k, k.write(noRequest) // an open file asks for nothing until it is told what to ask for
}

func newKeeper(out io.WriteCloser) *Keeper {
	start := time.Now()
	return &Keeper{out: out, clock: func() time.Duration { return time.Since(start) }}
}

// Call hears of a call that its client waits for, and sends nothing beside. It allocates nothing.
func (k *Keeper) Call() {
	if k.calls.Add(1)%burst != 0 || k.on.Load() {
		return
	}
	now := k.clock()
	if now-time.Duration(k.since.Swap(int64(now))) <= burstTime {
		k.ask()
	}
}

// ask has the processors kept from being halted until look finds that calls have become few.
func (k *Keeper) ask() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.out == nil || k.failed != nil || k.on.Load() {
		return
	}
	if k.failed = k.write(0); k.failed != nil {
		return
	}
	k.on.Store(true)
	k.asked++
	k.seen = k.calls.Load()
	if k.timer == nil {
		k.timer = time.AfterFunc(lookEvery, k.look)
	} else {
		k.timer.Reset(lookEvery)
	}
}

// look is the timer's.
func (k *Keeper) look() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.out == nil || !k.on.Load() {
		return
	}
	n := k.calls.Load()
	if n-k.seen >= enough {
		k.seen = n
		k.timer.Reset(lookEvery)
		return
	}
	k.on.Store(false)
	k.failed = k.write(noRequest)
}

// write tells the kernel a latency in microseconds.
func (k *Keeper) write(latency uint32) error {
	_, err := k.out.Write(binary.NativeEndian.AppendUint32(nil, latency))
	return err
}

// Asked says how often it was asked for.
func (k *Keeper) Asked() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked
}

// Close asks for nothing any more. Calls that come later are ignored.
func (k *Keeper) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.out == nil {
		return nil
	}
	if k.timer != nil {
		k.timer.Stop()
	}
	out := k.out
	k.out = nil
	k.on.Store(false)
	return out.Close()
}
