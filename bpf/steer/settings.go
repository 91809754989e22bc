package steer

import (
	"crypto/rand"
	"encoding/binary"
)

func (s *Steer) settings() (programConfig, error) {
	var c programConfig
	err := s.objects.Settings.Lookup(uint32(0), &c)
	return c, translate("read settings", err)
}

func (s *Steer) putSettings(c *programConfig) error {
	return translate("write settings", s.objects.Settings.Put(uint32(0), c))
}

// firstSettings are those of new maps. The seed keeps clients from choosing their worker.
func (s *Steer) firstSettings() error {
	var seed [4]byte
	rand.Read(seed[:])
	return s.putSettings(&programConfig{Port: uint32(s.o.Port), Seed: binary.NativeEndian.Uint32(seed[:])})
}

// claimLocked makes this Steer the one that may change things, at its first change; later it makes
// sure that it still is.
func (s *Steer) claimLocked() error {
	c, err := s.settings()
	if err != nil {
		return err
	}
	if s.generation != 0 {
		if c.Generation != s.generation {
			return ErrSuperseded
		}
		return nil
	}
	c.Generation++
	if c.Generation == 0 { // after a wrap
		c.Generation++
	}
	c.Port = uint32(s.o.Port)
	if err := s.putSettings(&c); err != nil {
		return err
	}
	s.generation = c.Generation
	return nil
}
