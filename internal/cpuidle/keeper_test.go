package cpuidle

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// requests is what is written to the kernel's interface.
type requests struct {
	err error

	mu        sync.Mutex
	latencies []uint32
	closed    bool
}

func (r *requests) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	r.latencies = append(r.latencies, binary.NativeEndian.Uint32(p))
	return len(p), nil
}

func (r *requests) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}

// asked is all that was written.
func (r *requests) asked() []uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.latencies)
}

// come has calls come, one each time.
func come(k *Keeper, calls int, each time.Duration) {
	for range calls {
		time.Sleep(each)
		k.Call()
	}
}

// TestKeeper has calls come at several rates, and looks at what is asked for meanwhile and afterwards.
func TestKeeper(t *testing.T) {
	for _, c := range []struct {
		name  string
		calls int
		each  time.Duration
		on    bool
	}{
		{"few", 20, time.Millisecond, false},
		{"slow", 200, 5 * time.Millisecond, false},
		{"at the bound", 200, 2 * time.Millisecond, false}, // asked for in the first burst, taken back at the first look
		{"fast", 200, time.Millisecond, true},
		{"very fast", 5000, 50 * time.Microsecond, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &requests{}
				k := newKeeper(r)
				time.Sleep(time.Second)
				come(k, c.calls, c.each)
				if k.on.Load() != c.on {
					t.Errorf("after the calls: %v, %v", k.on.Load(), r.asked())
				}
				time.Sleep(2 * lookEvery)
				if k.on.Load() {
					t.Error("it is still asked for")
				}
				asked := r.asked()
				if n := len(asked); n%2 != 0 || n > 0 && asked[n-1] != noRequest || c.on && n == 0 {
					t.Errorf("asked for %v", asked)
				}
				if err := k.Close(); err != nil || !r.closed {
					t.Errorf("close: %v, %v", err, r.closed)
				}
			})
		})
	}
}

// TestAgain has fast calls stop and come again.
func TestAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &requests{}
		k := newKeeper(r)
		time.Sleep(time.Second)
		for range 3 {
			come(k, 100, time.Millisecond)
			time.Sleep(time.Second)
		}
		if want := []uint32{0, noRequest, 0, noRequest, 0, noRequest}; !slices.Equal(r.asked(), want) || k.Asked() != 3 {
			t.Errorf("asked for %v, %d times", r.asked(), k.Asked())
		}
	})
}

// TestClosed closes one that asks, and lets calls come.
func TestClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &requests{}
		k := newKeeper(r)
		time.Sleep(time.Second)
		come(k, 100, time.Millisecond)
		if err := errors.Join(k.Close(), k.Close()); err != nil || !r.closed {
			t.Errorf("close: %v, %v", err, r.closed)
		}
		before := r.asked()
		come(k, 100, time.Millisecond)
		if after := r.asked(); len(after) != len(before) {
			t.Errorf("asked for %v after Close", after[len(before):])
		}
	})
}

// TestRefused asks a kernel that refuses, once.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &requests{err: errors.New("no")}
		k := newKeeper(r)
		time.Sleep(time.Second)
		come(k, 100, time.Millisecond)
		if k.on.Load() || k.Asked() != 0 {
			t.Error("it counts as asked for")
		}
	})
}

// TestKernel asks this machine's kernel, where that has a use.
func TestKernel(t *testing.T) {
	k, err := New()
	if errors.Is(err, ErrNoUse) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%v: this runs as root in a virtual machine with the idle governor haltpoll", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	k.ask()
	if k.Asked() != 1 || k.failed != nil {
		t.Errorf("asked %d times: %v", k.Asked(), k.failed)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}

// TestNoAllocation counts what a call allocates.
func TestNoAllocation(t *testing.T) {
	k := newKeeper(&requests{latencies: make([]uint32, 0, 100)})
	defer k.Close()
	k.on.Store(true)
	if n := testing.AllocsPerRun(1000, k.Call); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}
