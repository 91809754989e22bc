package durable

import (
	"os"
	"syscall"
)

// Stamp is what changes when a file is written or replaced; the zero Stamp is that of one which isn't there.
type Stamp struct {
	device, inode uint64
	size          int64
	changed       syscall.Timespec
}

// StampOf looks at a file.
func StampOf(path string) Stamp {
	info, err := os.Stat(path)
	if err != nil {
		return Stamp{}
	}
	st := info.Sys().(*syscall.Stat_t)
	return Stamp{uint64(st.Dev), st.Ino, st.Size, st.Ctim}
}
