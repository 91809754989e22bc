package rpc

import "time"

// handOut gives t to a worker: one that waits, or a new one.
func (s *server) handOut(t *task) {
	select {
	case s.calls <- t:
	default:
		s.wg.Add(1)
		go t.run()
	}
}

// work is a worker's goroutine: it handles t and then, for as long as there are some every now and then,
// further calls. Handlers need deep stacks, and a goroutine that has one already saves the growing.
func (s *server) work(t *task) {
	defer s.wg.Done()
	var linger *time.Timer
	for t != nil {
		t.handle()
		if s.idle.Add(1) > maxIdleWorkers {
			s.idle.Add(-1)
			break
		}
		if linger == nil {
			linger = time.NewTimer(lingerTime)
		} else {
			linger.Reset(lingerTime)
		}
		select {
		case t = <-s.calls:
		case <-linger.C:
			t = nil
		}
		s.idle.Add(-1)
	}
	if linger != nil {
		linger.Stop()
	}
}
