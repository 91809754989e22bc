package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// TempSuffix marks a file that was being written when the process ended; it never holds the only
// copy of anything.
const TempSuffix = ".tmp"

// WriteFile puts data at path with the permission bits perm, replacing what was there in one step.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	temp := path + TempSuffix
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := create(temp, data, perm); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// CreateFile puts data at path, which must not exist (fs.ErrExist if it does). A crash leaves all of
// it there or nothing.
func CreateFile(path string, data []byte, perm fs.FileMode) error {
	temp := path + TempSuffix
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := create(temp, data, perm); err != nil {
		return err
	}
	if err := errors.Join(os.Link(temp, path), os.Remove(temp)); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

func create(path string, data []byte, perm fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// ReadFile returns the content of path, which must be a regular file of at most maxBytes bytes.
func ReadFile(path string, maxBytes int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > maxBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxBytes)
	}
	return data, nil
}

// MakeDir makes one directory, whose parent exists, and its entry durable. An existing directory is
// left as it is.
func MakeDir(path string, perm fs.FileMode) error {
	if err := os.Mkdir(path, perm); err != nil {
		if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
			return nil
		}
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// destroyedSuffix is what Destroy adds to a name while there is something left of the file.
const destroyedSuffix = ".destroyed"

// Destroy overwrites a small file with zeros before it removes it, so that a device that writes in
// place keeps no copy. What a copy-on-write file system or a flash translation layer keeps below is
// out of reach. First it takes the name away: after a crash the file is there whole, or it is not
// there under its name, never with zeros in it, and a further call ends what is left. A file that is
// gone already is no error.
func Destroy(path string) error {
	if err := FinishDestroy(path); err != nil {
		return err
	}
	rest := path + destroyedSuffix
	if err := os.Rename(path, rest); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := SyncDir(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	info, err := os.Lstat(rest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		if err := overwrite(rest, info.Size()); err != nil {
			return err
		}
	}
	if err := os.Remove(rest); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// ReplaceFile is WriteFile for a file whose content of before is destroyed as Destroy does it. After a crash
// the file has either content, whole; FinishDestroy, before it is read, ends what is left of the other.
func ReplaceFile(path string, data []byte, perm fs.FileMode) error {
	if err := FinishDestroy(path); err != nil {
		return err
	}
	if err := os.Link(path, path+destroyedSuffix); err != nil {
		return err
	}
	if err := WriteFile(path, data, perm); err != nil {
		return err
	}
	return FinishDestroy(path)
}

// FinishDestroy ends what a ReplaceFile or Destroy left that was cut short. What path stands for now stays.
func FinishDestroy(path string) error {
	rest := path + destroyedSuffix
	info, err := os.Lstat(rest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	present, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if same := err == nil && os.SameFile(info, present); !same && info.Mode().IsRegular() {
		if err := overwrite(rest, info.Size()); err != nil {
			return err
		}
	}
	if err := os.Remove(rest); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

func overwrite(path string, size int64) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteAt(make([]byte, size), 0); err != nil {
		return err
	}
	return f.Sync()
}

// SyncDir makes the entries of a directory durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
