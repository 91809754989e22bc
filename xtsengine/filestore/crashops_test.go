package filestore

import (
	"errors"
	"fmt"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// doRange commits, or changes a range of a file: n is from 0 to 25.
func (c *crashWorker) doRange(f *crashFile, n int) error {
	switch {
	case n < 10:
		return c.doCommit(f)
	case n < 14:
		return c.doAllocate(f)
	case n < 19:
		return c.doDeallocate(f)
	}
	return c.doClone(f)
}

// ranged ends a change whose result is the last version: durable if it was acknowledged, and never
// there if there was no space for it.
func (c *crashWorker) ranged(f *crashFile, err error) (done bool, _ error) {
	if errors.Is(err, vfs.ErrNoSpace) {
		f.versions = f.versions[:len(f.versions)-1]
		return false, nil
	}
	if err == nil && c.w.alive() {
		f.stable()
		return true, nil
	}
	return false, err
}

func (c *crashWorker) doAllocate(f *crashFile) error {
	offset, length := c.rng.IntN(150<<10), 1+c.rng.IntN(300<<10)
	v := make([]byte, max(len(f.now()), offset+length))
	copy(v, f.now())
	f.grow(v)
	var out vfs.Attr
	_, err := c.ranged(f, c.r.Allocate(bg, nil, f.id, uint64(offset), uint64(length), &out))
	return err
}

func (c *crashWorker) doDeallocate(f *crashFile) error {
	if len(f.now()) == 0 {
		return nil
	}
	offset, length := c.rng.IntN(len(f.now())), 1+c.rng.IntN(60<<10)
	if c.rng.IntN(2) == 0 {
		offset &^= blockBytes - 1
	}
	v := append([]byte(nil), f.now()...)
	clear(v[offset:min(len(v), offset+length)])
	f.grow(v)
	var out vfs.Attr
	_, err := c.ranged(f, c.r.Deallocate(bg, nil, f.id, uint64(offset), uint64(length), &out))
	return err
}

// doClone clones a range of another file, or of the file itself, to f.
func (c *crashWorker) doClone(f *crashFile) error {
	from := f
	for _, other := range c.names {
		if !other.dir && c.rng.IntN(3) == 0 {
			from = other
		}
	}
	src := from.now()
	lo := c.rng.IntN(len(src)/blockBytes+1) * blockBytes
	to := c.rng.IntN(50) * blockBytes
	length := len(src) - lo
	if to+length < len(f.now()) || c.rng.IntN(2) == 0 {
		length = min(length, (1+c.rng.IntN(30))*blockBytes) / blockBytes * blockBytes
	}
	overlap := from == f && lo < to+length && to < lo+length
	if length == 0 || overlap || to+length > 400<<10 {
		return nil
	}
	v := make([]byte, max(len(f.now()), to+length))
	copy(v, f.now())
	copy(v[to:], src[lo:lo+length])
	f.grow(v)
	var out vfs.Attr
	done, err := c.ranged(f, c.r.Clone(bg, nil, from.id, f.id, uint64(lo), uint64(to), uint64(length), &out))
	if done && from != f {
		from.stable()
	}
	return err
}

// doXattr changes or removes the extended attribute of a file.
func (c *crashWorker) doXattr(f *crashFile) error {
	f.oldXattr, f.xattr = f.xattr, fmt.Sprint(c.rng.IntN(1000))
	if c.rng.IntN(4) == 0 {
		f.xattr = ""
	}
	var err error
	switch {
	case f.xattr != "":
		_, err = c.r.SetXattr(bg, nil, f.id, "x", []byte(f.xattr), vfs.XattrEither)
	case f.oldXattr != "":
		_, err = c.r.RemoveXattr(bg, nil, f.id, "x")
	}
	if err == nil && c.w.alive() {
		f.oldXattr = f.xattr
	}
	return err
}
