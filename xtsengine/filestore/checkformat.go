package filestore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
)

// CheckFormat returns ErrNewerFormat if a later version wrote the store in dir, and other errors if
// its format can't be told. It writes nothing. A store that is missing, or whose making was cut
// short, is no error.
func CheckFormat(fs pebblevfs.FS, dir string) error {
	_, err := readFormat(fs, dir)
	if errors.Is(err, ErrForeign) {
		return nil
	}
	if err != nil {
		return err
	}
	return checkPebbleFormat(fs, fs.PathJoin(dir, storeName))
}

// checkPebbleFormat looks at the version of Pebble's own format, which stands in a file name.
func checkPebbleFormat(fs pebblevfs.FS, dir string) error {
	desc, err := pebble.Peek(dir, fs)
	if err != nil && strings.Contains(err.Error(), "unknown format major version") { // Pebble has no type for it
		return fmt.Errorf("%w: %w", ErrNewerFormat, err)
	}
	if err != nil {
		return fmt.Errorf("filestore: metadata store: %w", err)
	}
	if desc.FormatMajorVersion > pebbleFormat {
		return fmt.Errorf("%w: metadata store has version %d, this program knows up to %d",
			ErrNewerFormat, desc.FormatMajorVersion, pebbleFormat)
	}
	return nil
}
