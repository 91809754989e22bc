package pki

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Errors of what is on disk.
var (
	// ErrCorrupt says that a file isn't what this package wrote.
	ErrCorrupt = errors.New("pki: file is damaged")
	// ErrNewerFormat says that a later version of nfseal wrote a file.
	ErrNewerFormat = errors.New("pki: file has a newer format than this program knows")
)

// formatVersion is that of every file here.
const formatVersion = 1

// readJSON fills v from the file. A missing file gives fs.ErrNotExist.
func readJSON(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	if len(data) > maxFileBytes {
		return fmt.Errorf("%w: %s is larger than %d bytes", ErrCorrupt, path, maxFileBytes)
	}
	if err := decodeJSON(data, v); err != nil {
		return fmt.Errorf("%w (%s)", err, path)
	}
	return nil
}

// decodeJSON looks at the format number before anything else.
func decodeJSON(data []byte, v any) error {
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if head.Format > formatVersion {
		return fmt.Errorf("%w: %d, known is %d", ErrNewerFormat, head.Format, formatVersion)
	}
	if head.Format != formatVersion {
		return fmt.Errorf("%w: format number %d", ErrCorrupt, head.Format)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("pki: %s: %w", path, err)
	}
	return writeFile(path, append(data, '\n'), 0o600)
}

// writeFile replaces path as a whole and durably.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	fresh := path + ".new"
	if err := writeSynced(fresh, data, mode); err != nil {
		os.Remove(fresh)
		return fmt.Errorf("pki: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		os.Remove(fresh)
		return fmt.Errorf("pki: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func writeSynced(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("pki: sync %s: %w", dir, err)
	}
	return nil
}
