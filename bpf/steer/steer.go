package steer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/nfseal/nfseal/bpf/bpffs"
)

// Steer is the program with its maps, attached to a network namespace. Its methods may be called
// concurrently, and by several processes.
type Steer struct {
	o Options

	mu      sync.Mutex
	closed  bool
	objects programObjects
	link    *link.NetNsLink // nil until attached
	netns   *os.File
	// fresh is set while the maps are not those that are pinned, and filled says what was put into
	// them: publish waits for both.
	fresh  bool
	filled struct{ targets, listeners bool }
	// generation is that of the settings since this Steer first changed something, or 0.
	generation uint32
}

// Open takes up what is pinned, or makes and attaches it. What is steered does not change by that:
// SetListeners and SetTargets take over.
func Open(o Options) (*Steer, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := Supported(); err != nil {
		return nil, err
	}
	if err := bpffs.MakeDir(o.PinDir); err != nil {
		return nil, translate("pin directory", err)
	}
	lock, err := bpffs.Lock(o.PinDir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	s := &Steer{o: o}
	if err := s.openLocked(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Steer) openLocked() error {
	var err error
	if s.netns, err = os.Open(s.o.Netns); err != nil {
		return fmt.Errorf("steer: network namespace: %w", err)
	}
	if err := s.findLink(); err != nil {
		return err
	}
	pinned := s.loadMaps()
	defer closeMaps(pinned)
	s.fresh = pinned == nil
	spec, err := loadProgram()
	if err != nil {
		return fmt.Errorf("steer: %w", err)
	}
	err = spec.LoadAndAssign(&s.objects, &ebpf.CollectionOptions{MapReplacements: pinned})
	if err != nil {
		return translate("load program", err)
	}
	if s.fresh {
		if err := s.firstSettings(); err != nil {
			return err
		}
	}
	if s.fresh && s.link != nil {
		return nil // an older program goes on until the new maps are filled
	}
	return s.publishLocked()
}

// change runs f with the pinned maps owned by this Steer.
func (s *Steer) change(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	lock, err := bpffs.Lock(s.o.PinDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := s.claimLocked(); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	if s.fresh && s.filled.targets && s.filled.listeners {
		return s.publishLocked()
	}
	return nil
}

// SetListeners has connections shared out among the sockets ls, by a hash of the client's address and
// port, in place of those before. At no moment is there none: a slot goes from the old socket to the
// new one at once, and one that holds the same socket already is left alone. The sockets stay the
// caller's, who may close the old ones when they have nothing left to accept. It takes over from
// every other Steer with the same pins.
func (s *Steer) SetListeners(ls []*net.TCPListener) error {
	sockets, err := examine(ls)
	if err != nil {
		return err
	}
	return s.change(func() error {
		if err := s.putSockets(sockets); err != nil {
			return err
		}
		s.filled.listeners = true
		return nil
	})
}

// SetTargets makes addrs, and no others, the mount target addresses. The counters of those that stay
// go on. It takes over from every other Steer with the same pins.
func (s *Steer) SetTargets(addrs []netip.Addr) error {
	keys, err := targetKeys(addrs)
	if err != nil {
		return err
	}
	return s.change(func() error {
		if err := s.putTargets(keys); err != nil {
			return err
		}
		s.filled.targets = true
		return nil
	})
}

// Close gives back what this process holds. What is pinned goes on: connections reach the listening
// sockets while those are open.
func (s *Steer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeLocked()
}

func (s *Steer) closeLocked() error {
	if s.closed {
		return nil
	}
	s.closed = true
	errs := []error{s.objects.Close()}
	if s.link != nil {
		errs = append(errs, s.link.Close())
	}
	if s.netns != nil {
		errs = append(errs, s.netns.Close())
	}
	return errors.Join(errs...)
}

// Remove ends the steering for good, unless another Steer has taken it over, and closes the Steer.
func (s *Steer) Remove() error {
	err := s.change(func() error {
		if s.link != nil {
			if err := s.link.Detach(); err != nil {
				return translate("detach", err)
			}
		}
		return unpinAll(s.o.PinDir)
	})
	return errors.Join(err, s.Close())
}
