package forward

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/durable"
)

// cursorFormat is the newest version of a cursor file.
const cursorFormat = 1

// cursorFile is what was delivered.
type cursorFile struct {
	Format int            `json:"format"`
	After  audit.Position `json:"after"`
}

// readCursor is where to go on, the beginning of the log if there is no file.
func readCursor(path string) (audit.Position, error) {
	text, err := durable.ReadFile(path, maxCursorBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return audit.Position{}, nil
	}
	if err != nil {
		return audit.Position{}, err
	}
	var c cursorFile
	if err := json.Unmarshal(text, &c); err != nil || c.Format < 1 {
		return audit.Position{}, fmt.Errorf("%s is damaged", path)
	}
	if c.Format > cursorFormat {
		return audit.Position{}, fmt.Errorf("%s has format %d, this version knows %d", path, c.Format, cursorFormat)
	}
	return c.After, nil
}

func writeCursor(path string, after audit.Position) error {
	text, err := json.Marshal(cursorFile{cursorFormat, after})
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(text, '\n'), 0o600)
}
