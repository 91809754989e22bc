package pki

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/nfseal/nfseal/appliance/durable"
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
	data, err := durable.ReadFile(path, maxFileBytes)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
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

// writeFile replaces path as a whole and durably. mode is what it gets, whatever the process's mask.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	if err := durable.WriteFile(path, data, mode); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	return nil
}
