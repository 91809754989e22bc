package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nfseal/nfseal/appliance/durable"
)

// ErrTooLarge says that an event needs more room than a line may have.
var ErrTooLarge = errors.New("audit: event is too large to be recorded")

// ErrClosed follows Close.
var ErrClosed = errors.New("audit: log is closed")

// Event is what a caller says. It must hold no secret: it is kept for ever, in the clear. The names
// of the fields in JSON are CloudTrail's.
type Event struct {
	Source       string            `json:"eventSource"`         // the service: kms, elasticfilesystem, nfseal
	Name         string            `json:"eventName"`           // the operation: Decrypt, CreateFileSystem
	Type         string            `json:"eventType,omitempty"` // AwsServiceEvent for what nobody called for
	Identity     Identity          `json:"userIdentity"`
	Address      string            `json:"sourceIPAddress,omitempty"`
	RequestID    string            `json:"requestID,omitempty"`
	Parameters   map[string]string `json:"requestParameters,omitempty"`
	Resources    []string          `json:"resources,omitempty"` // ARNs or ids
	Connection   *Connection       `json:"serviceEventDetails,omitempty"`
	ErrorCode    string            `json:"errorCode,omitempty"`
	ErrorMessage string            `json:"errorMessage,omitempty"`
}

// ServiceEvent is the Type of what nobody called for.
const ServiceEvent = "AwsServiceEvent"

// Connection is what a record of an NFS client's connection tells.
type Connection struct {
	Permissions Permissions `json:"permissions"`
	Address     string      `json:"sourceIpAddress"`
}

// Permissions are what a client may do.
type Permissions struct {
	RootAccess bool `json:"ClientRootAccess"`
	Mount      bool `json:"ClientMount"`
	Write      bool `json:"ClientWrite"`
}

// Identity is on whose behalf something was done.
type Identity struct {
	Type      string `json:"type"` // AWSService for the daemon itself, LocalUser for the API socket
	Principal string `json:"principalId,omitempty"`
	InvokedBy string `json:"invokedBy,omitempty"`
}

// Record is an Event in its place in the chain.
type Record struct {
	Sequence uint64    `json:"sequence"` // from 1
	Previous string    `json:"previous"` // hash of the record before; 64 zeros for the first
	Time     time.Time `json:"eventTime"`
	Host     string    `json:"host"`
	Event
}

// Options says where the log is and what it says of itself.
type Options struct {
	Dir          string           // made if it does not exist; its parent must
	Host         string           // name of this machine, in each record
	Clock        func() time.Time // default time.Now
	MaxFileBytes int64            // when the next file is begun; default 64 MiB
}

// EnsureDefaults fills in what was left zero.
func (o *Options) EnsureDefaults() {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.MaxFileBytes == 0 {
		o.MaxFileBytes = defaultMaxFileBytes
	}
}

// Validate says what is wrong with o.
func (o *Options) Validate() error {
	if o.Dir == "" {
		return errors.New("audit: no directory given")
	}
	if o.MaxFileBytes < maxLineBytes {
		return fmt.Errorf("audit: a file of %d bytes can't hold a line of %d", o.MaxFileBytes, maxLineBytes)
	}
	return nil
}

// Log is an open log. One process at a time may have a directory open: the data directory's lock
// sees to that.
type Log struct {
	o Options

	mu     sync.Mutex
	file   *os.File // nil when the next Append has to begin a file
	number int      // of the newest file
	size   int64    // bytes of file that hold acknowledged lines
	last   link
	closed error // why nothing can be appended any more
}

// link is the end of the chain.
type link struct {
	sequence uint64
	hash     [sha256.Size]byte
}

// Open goes on with the log in o.Dir in a new file.
func Open(o Options) (*Log, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := durable.MakeDir(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	last, number, err := lastLink(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	l := &Log{o: o, number: number, last: last}
	if err := l.beginFile(); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return l, nil
}

// Append puts e at the end of the chain. When it returns nil the record is durable; on an error it
// is not in the log.
func (l *Log) Append(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return l.closed
	}
	line, next, err := l.encodeLocked(&e)
	if err != nil {
		return err
	}
	if l.file != nil && l.size+int64(len(line)) > l.o.MaxFileBytes {
		l.dropFileLocked()
	}
	if l.file == nil {
		if err := l.beginFile(); err != nil {
			return fmt.Errorf("audit: record can't be written: %w", err)
		}
	}
	if err := l.writeLocked(line); err != nil {
		return fmt.Errorf("audit: record can't be written: %w", err)
	}
	l.last = next
	return nil
}

// encodeLocked makes the line of e and the end of the chain that it will be.
func (l *Log) encodeLocked(e *Event) ([]byte, link, error) {
	body, err := json.Marshal(&Record{
		Sequence: l.last.sequence + 1,
		Previous: hex.EncodeToString(l.last.hash[:]),
		Time:     l.o.Clock().UTC(),
		Host:     l.o.Host,
		Event:    *e,
	})
	if err != nil {
		return nil, link{}, fmt.Errorf("audit: %w", err)
	}
	next := link{l.last.sequence + 1, sha256.Sum256(body)}
	line := formatLine(next.hash, body)
	if len(line) > maxLineBytes {
		return nil, link{}, ErrTooLarge
	}
	return line, next, nil
}

// writeLocked appends line or leaves the file as it was. A file that can't be left as it was is
// given up: the next record begins another.
func (l *Log) writeLocked(line []byte) error {
	_, err := l.file.WriteAt(line, l.size)
	if err == nil {
		err = l.file.Sync()
	}
	if err == nil {
		l.size += int64(len(line))
		return nil
	}
	if cut := errors.Join(l.file.Truncate(l.size), l.file.Sync()); cut != nil {
		// What is at the end of the file can't be known, so nothing can follow it.
		l.closed = fmt.Errorf("audit: log is given up after a failed write: %w", cut)
		err = errors.Join(err, cut)
	}
	l.dropFileLocked()
	return err
}

func (l *Log) dropFileLocked() {
	l.file.Close() // every line is synced: nothing can be lost here
	l.file = nil
}

func (l *Log) beginFile() error {
	if l.number >= maxFiles {
		return fmt.Errorf("%s has %d files, no more can be named", l.o.Dir, l.number)
	}
	f, err := os.OpenFile(filepath.Join(l.o.Dir, fileName(l.number+1)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := durable.SyncDir(l.o.Dir); err != nil {
		return errors.Join(err, f.Close())
	}
	l.number++
	l.file, l.size = f, 0
	return nil
}

// Close ends the log. A second call does nothing.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed == nil {
		l.closed = ErrClosed
	}
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

func fileName(number int) string { return fmt.Sprintf("%08d.jsonl", number) }

// fileNumber is the inverse of fileName; 0 for anything else.
func fileNumber(name string) int {
	digits, ok := bytes.CutSuffix([]byte(name), []byte(".jsonl"))
	if !ok || len(digits) != 8 {
		return 0
	}
	n, err := strconv.ParseUint(string(digits), 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}
