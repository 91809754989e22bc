package volume

import (
	"sync"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
)

// syncer shares flushes: a call is served by the first flush that begins after it came.
type syncer struct {
	dev blockdev.Device

	mu       sync.Mutex
	ended    sync.Cond // on mu: a flush ended
	running  bool
	begun    uint64 // flushes begun
	finished uint64 // flushes ended
	err      error  // the first failure, which is final
}

func (s *syncer) init(dev blockdev.Device) {
	s.dev = dev
	s.ended.L = &s.mu
}

func (s *syncer) sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := s.begun + 1
	for s.finished < mine {
		if s.err != nil {
			return s.err
		}
		if s.running {
			s.ended.Wait()
			continue
		}
		s.flushLocked()
	}
	return s.err
}

// flushLocked does one flush with mu released.
func (s *syncer) flushLocked() {
	s.running = true
	s.begun++
	s.mu.Unlock()
	err := s.dev.Sync()
	s.mu.Lock()
	if err != nil && s.err == nil {
		s.err = err
	}
	s.running = false
	s.finished = s.begun
	s.ended.Broadcast()
}

// fence remembers that the device answered blockdev.ErrFenced, and tells it once.
type fence struct {
	mu     sync.Mutex
	raised bool
	tell   []func()
}

// raise calls everything that was registered, the first time.
func (f *fence) raise() {
	f.mu.Lock()
	tell := f.tell
	f.tell, f.raised = nil, true
	f.mu.Unlock()
	for _, call := range tell {
		call()
	}
}

// onRaise registers a call, or does it now if the fence is up.
func (f *fence) onRaise(call func()) {
	f.mu.Lock()
	if !f.raised {
		f.tell = append(f.tell, call)
		f.mu.Unlock()
		return
	}
	f.mu.Unlock()
	call()
}
