package steer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/bpf/bpffs"
)

// Names of the pins. newSuffix is on those that are about to take the place of another.
const (
	pinLink    = "link"
	pinProgram = "program"
	newSuffix  = "-new" // names on a BPF file system have no dots
)

// loadMaps gives the pinned maps if all are there and of the shape that the program wants, else nil:
// a version with other maps, or one that was interrupted, starts with maps of its own.
func (s *Steer) loadMaps() map[string]*ebpf.Map {
	spec, err := loadProgram()
	if err != nil {
		return nil
	}
	maps := make(map[string]*ebpf.Map, len(spec.Maps))
	for name, want := range spec.Maps {
		m, err := ebpf.LoadPinnedMap(s.pin(name), nil)
		if err == nil {
			maps[name] = m
			err = want.Compatible(m)
		}
		if err != nil {
			closeMaps(maps)
			return nil
		}
	}
	return maps
}

func closeMaps(maps map[string]*ebpf.Map) {
	for _, m := range maps {
		m.Close()
	}
}

// findLink loads the pinned link. One whose namespace has gone is as good as none.
func (s *Steer) findLink() error {
	l, err := link.LoadPinnedLink(s.pin(pinLink), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return translate("pinned link", err)
	}
	netns, ok := l.(*link.NetNsLink)
	if !ok {
		l.Close()
		return fmt.Errorf("steer: %s is no link to a network namespace", s.pin(pinLink))
	}
	inode, err := attachedTo(netns)
	if err != nil || inode == 0 {
		return errors.Join(err, netns.Close())
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(s.netns.Fd()), &st); err != nil {
		return errors.Join(fmt.Errorf("steer: network namespace: %w", err), netns.Close())
	}
	if uint64(inode) != st.Ino {
		return errors.Join(fmt.Errorf("%w: %s", ErrElsewhere, s.o.PinDir), netns.Close())
	}
	s.link = netns
	return nil
}

// attachedTo gives the inode of the link's namespace, 0 if that has gone.
func attachedTo(l *link.NetNsLink) (uint32, error) {
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("steer: pinned link: %w", err)
	}
	return info.NetNs().NetnsInode, nil
}

// publishLocked lets the program of this process steer and be pinned, with its maps.
func (s *Steer) publishLocked() error {
	if s.fresh {
		for name, m := range map[string]*ebpf.Map{
			programMapSettings: s.objects.Settings, programMapSockets: s.objects.Sockets,
			programMapTargets: s.objects.Targets,
		} {
			if err := s.replacePin(name, m); err != nil {
				return err
			}
		}
	}
	if err := s.replacePin(pinProgram, s.objects.Steer); err != nil {
		return err
	}
	s.fresh = false
	if s.link != nil {
		return translate("replace program", s.link.Update(s.objects.Steer))
	}
	l, err := link.AttachNetNs(int(s.netns.Fd()), s.objects.Steer)
	if err != nil {
		return translate("attach program", err)
	}
	s.link = l
	return s.replacePin(pinLink, l)
}

// replacePin pins what under name, in the place of what is pinned there. A crash leaves one of the
// two.
func (s *Steer) replacePin(name string, what interface{ Pin(string) error }) error {
	next := s.pin(name + newSuffix)
	if err := removeFile(next); err != nil {
		return err
	}
	if err := what.Pin(next); err != nil {
		return translate("pin "+name, err)
	}
	if err := os.Rename(next, s.pin(name)); err != nil {
		return fmt.Errorf("steer: pin %s: %w", name, err)
	}
	return nil
}

func (s *Steer) pin(name string) string { return filepath.Join(s.o.PinDir, name) }

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("steer: %w", err)
	}
	return nil
}

// unpinAll removes the directory of the pins.
func unpinAll(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("steer: %w", err)
	}
	return nil
}

// RemovePins ends the steering that is pinned in dir, whoever made it, where there is any: for a
// start without it. Connections to mount targets then need sockets bound to them.
func RemovePins(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if ok, err := bpffs.Is(dir); err != nil || !ok {
		return err
	}
	lock, err := bpffs.Lock(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	l, err := link.LoadPinnedLink(filepath.Join(dir, pinLink), nil)
	if err == nil {
		err = errors.Join(l.Detach(), l.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return translate("detach", err)
	}
	return unpinAll(dir)
}
