package hugemem

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// pageBytes is the size of a huge page on the processors that matter here.
const pageBytes = 2 << 20

// Map returns at least n bytes of zeros, whole huge pages. Memory is taken when it is first touched, a
// huge page at a time. Unmap gives it back, and takes what Map gave.
func Map(n int) ([]byte, error) {
	n = (n + pageBytes - 1) / pageBytes * pageBytes
	m, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("hugemem: %d bytes: %w", n, err)
	}
	_ = unix.Madvise(m, unix.MADV_HUGEPAGE) // advice: without it there are more faults
	_ = unix.Madvise(m, unix.MADV_DONTDUMP) // the process is not dumpable in any case
	return m, nil
}

// Unmap gives memory back that Map gave and nobody uses any more.
func Unmap(m []byte) error {
	if err := unix.Munmap(m); err != nil {
		return fmt.Errorf("hugemem: %w", err)
	}
	return nil
}
