package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// maxFillFiles bounds fill: a volume for this is small.
const (
	maxFillFiles  = 4096
	fillFileBytes = 4 << 20
)

// fill writes until there is no space, checks that what was written is intact, deletes half, writes
// again, and deletes everything.
func fill(dir string) error {
	n, err := fillUp(dir, 0)
	if err != nil {
		return err
	}
	fmt.Printf("full after %d files\n", n)
	for i := range n {
		if err := checkFill(dir, i); err != nil {
			return err
		}
	}
	for i := 0; i < n; i += 2 {
		if err := os.Remove(fillPath(dir, i)); err != nil {
			return fmt.Errorf("delete on a full volume: %w", err)
		}
	}
	again, err := fillUp(dir, n)
	if err != nil {
		return err
	}
	fmt.Printf("after deleting half, %d more\n", again-n)
	if again-n < n/4 {
		return fmt.Errorf("deleting %d files made room for only %d", (n+1)/2, again-n)
	}
	for i := 1; i < again; i++ {
		if i < n && i%2 == 0 {
			continue
		}
		if err := checkFill(dir, i); err != nil {
			return err
		}
		if err := os.Remove(fillPath(dir, i)); err != nil {
			return err
		}
	}
	return nil
}

// brimFileBytes is the size of brim's files.
const brimFileBytes = 1 << 20

// brim writes files, open to be read too, until there is no space, and does not sync: who closed a file without an error
// has what was written, and the others are told.
func brim(dir string) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return err
	}
	var kept []int
	for refused := 0; refused < 4; {
		i := len(kept) + refused
		if uint64(len(kept))*brimFileBytes > st.Blocks*uint64(st.Bsize) {
			return fmt.Errorf("%d files of %d bytes, closed without an error, are more than there is space for", len(kept), brimFileBytes)
		}
		err := writeClosed(fillPath(dir, i), pattern(uint64(i), brimFileBytes))
		switch {
		case err == nil:
			kept = append(kept, i)
		case !errors.Is(err, syscall.ENOSPC):
			return fmt.Errorf("file %d: got %w, want success or no space", i, err)
		default:
			refused++
			if err := os.Remove(fillPath(dir, i)); err != nil && !errors.Is(err, syscall.ENOENT) {
				return fmt.Errorf("delete on a full volume: %w", err)
			}
		}
	}
	for _, i := range kept {
		got, err := readUncached(fillPath(dir, i))
		if err == nil {
			err = equal(got, pattern(uint64(i), brimFileBytes))
		}
		if err != nil {
			return fmt.Errorf("file %d, which was closed without an error: %w", i, err)
		}
		if err := os.Remove(fillPath(dir, i)); err != nil {
			return err
		}
	}
	fmt.Printf("full after %d files\n", len(kept))
	return nil
}

// writeClosed makes a file, and tells what Close does.
func writeClosed(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func fillPath(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("fill-%04d", i)) }

// fillUp writes synced files numbered from first until one does not fit; that one it removes. It
// returns the next number.
func fillUp(dir string, first int) (int, error) {
	for i := first; i < first+maxFillFiles; i++ {
		err := writeSynced(fillPath(dir, i), pattern(uint64(i), fillFileBytes))
		if errors.Is(err, syscall.ENOSPC) {
			if err := os.Remove(fillPath(dir, i)); err != nil && !errors.Is(err, syscall.ENOENT) {
				return 0, fmt.Errorf("delete on a full volume: %w", err)
			}
			return i, nil
		}
		if err != nil {
			return 0, fmt.Errorf("file %d: got %w, want success or no space", i, err)
		}
	}
	return 0, fmt.Errorf("%d files of %d bytes did not fill it", maxFillFiles, fillFileBytes)
}

func writeSynced(path string, text []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func checkFill(dir string, i int) error {
	got, err := readUncached(fillPath(dir, i))
	if err != nil {
		return err
	}
	if err := equal(got, pattern(uint64(i), fillFileBytes)); err != nil {
		return fmt.Errorf("file %d of a full volume: %w", i, err)
	}
	return nil
}
