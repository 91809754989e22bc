package audit

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// ErrOtherLog says that a Position is not one of the log: records were changed or taken away there, or it is of another.
var ErrOtherLog = errors.New("audit: the position is not one of this log")

// Position is a place between two records. The zero Position is before the first.
type Position struct {
	Sequence uint64 `json:"sequence"` // of the record before it
	Hash     string `json:"hash"`     // of that record; "" for none
	File     int    `json:"file"`     // the number of a file
	Offset   int64  `json:"offset"`   // in bytes, in that file
}

// Progress says up to where records are durable, and gives a channel that is closed when more are.
func (l *Log) Progress() (Position, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := Position{Sequence: l.durable.last.sequence, File: l.number, Offset: l.durable.size}
	if end.Sequence > 0 {
		end.Hash = hex.EncodeToString(l.durable.last.hash[:])
	}
	return end, l.more
}

// Entry is a record as it stands in the log.
type Entry struct {
	Record Record
	Line   []byte   // with its newline; valid until the next call of Next
	After  Position // behind it
}

// Tail reads a log from a position on, and may do so while it is written. It holds one line in memory. One
// goroutine at a time may use it.
type Tail struct {
	dir    string
	at     Position
	joined bool // whether a record was read, so that at is known to be of this log

	file          *os.File // the one that at is in; nil until it is needed
	buffer        []byte
	begins, ahead int // what was read and not yet given, in buffer
}

// Follow returns a Tail that begins at a position.
func Follow(dir string, at Position) *Tail {
	return &Tail{dir: dir, at: at, buffer: make([]byte, MaxLineBytes)}
}

// Next returns the next record before limit, which Progress gave, or nil if there is none. ErrOtherLog says that where
// Follow was to begin is not in the log.
func (t *Tail) Next(limit Position) (*Entry, error) {
	if t.at.Sequence > limit.Sequence || t.at.File > limit.File {
		return nil, ErrOtherLog
	}
	for t.at.File != limit.File || t.at.Offset < limit.Offset {
		line, err := t.line(limit)
		if err != nil {
			return nil, err
		}
		if line != nil {
			record, end, err := parseLine(line)
			if err == nil {
				return t.entry(record, end, line)
			}
			if !t.joined && t.at.Sequence > 0 && t.at.File == limit.File {
				return nil, ErrOtherLog
			}
			if t.at.File == limit.File {
				return nil, fmt.Errorf("audit: record after %d %w", t.at.Sequence, err)
			}
		}
		// The file has ended, or nobody was told of the rest of it: see the package's comment.
		if more, err := t.nextFile(limit); err != nil || !more {
			return nil, err
		}
	}
	return nil, nil
}

// entry goes behind a record and gives it.
func (t *Tail) entry(record Record, end link, line []byte) (*Entry, error) {
	if !t.joined && t.at.Sequence > 0 && (record.Sequence != t.at.Sequence+1 || record.Previous != t.at.Hash) {
		return nil, ErrOtherLog
	}
	t.joined = true
	t.at = Position{end.sequence, hex.EncodeToString(end.hash[:]), t.at.File, t.at.Offset + int64(len(line))}
	return &Entry{record, line, t.at}, nil
}

// line is the next line of the file, nil if it has no more whole ones.
func (t *Tail) line(limit Position) ([]byte, error) {
	if t.file == nil {
		if err := t.open(); err != nil {
			return nil, err
		}
	}
	for {
		unread := t.buffer[t.begins : t.begins+t.ahead]
		if end := bytes.IndexByte(unread, '\n'); end >= 0 {
			t.begins, t.ahead = t.begins+end+1, t.ahead-end-1
			return unread[:end+1], nil
		}
		copy(t.buffer, unread)
		t.begins = 0
		room := t.buffer[t.ahead:]
		from := t.at.Offset + int64(t.ahead)
		if t.at.File == limit.File { // behind the limit is what may yet be taken out of the log
			room = room[:max(0, min(int64(len(room)), limit.Offset-from))]
		}
		n, err := t.file.ReadAt(room, from)
		t.ahead += n
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("audit: %w", err)
		}
		if n == 0 {
			t.ahead = 0
			return nil, nil
		}
	}
}

// open opens the file that the position is in; one that is not there has ended.
func (t *Tail) open() error {
	f, err := os.Open(filepath.Join(t.dir, fileName(t.at.File)))
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(os.DevNull)
	}
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	t.file = f
	return nil
}

// nextFile goes to the beginning of the file after this one, if there is one.
func (t *Tail) nextFile(limit Position) (bool, error) {
	numbers, err := listFiles(t.dir)
	if err != nil {
		return false, fmt.Errorf("audit: %w", err)
	}
	i, found := slices.BinarySearch(numbers, t.at.File)
	if found {
		i++
	}
	if i == len(numbers) || numbers[i] > limit.File {
		return false, nil
	}
	t.Close()
	t.at.File, t.at.Offset, t.begins, t.ahead = numbers[i], 0, 0, 0
	return true, nil
}

// Close lets go of the file.
func (t *Tail) Close() {
	if t.file != nil {
		t.file.Close() // it was only read
		t.file = nil
	}
}
