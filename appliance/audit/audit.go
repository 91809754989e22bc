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
	// UserName and Provider are of a WebIdentityUser: its subject, and the ARN of who tells of it.
	UserName string `json:"userName,omitempty"`
	Provider string `json:"identityProvider,omitempty"`
	// AccessKeyID is what was signed with: of a session, the one that AssumeRole's record has.
	AccessKeyID string `json:"accessKeyId,omitempty"`
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
	if o.MaxFileBytes < MaxLineBytes {
		return fmt.Errorf("audit: a file of %d bytes can't hold a line of %d", o.MaxFileBytes, MaxLineBytes)
	}
	return nil
}

// Log is an open log. One process at a time may have a directory open: the data directory's lock
// sees to that.
type Log struct {
	o Options

	// syncing is held while records are made durable. It comes before mu.
	syncing sync.Mutex

	mu      sync.Mutex
	file    *os.File // nil when the next Append has to begin a file
	number  int      // of the newest file
	size    int64    // bytes of file that hold whole lines
	last    link     // of the line that was written last
	durable struct { // what is on stable storage of file, and its last line
		size int64
		last link
	}
	batch  *batch        // what was written since the last Sync began; nil if nothing was
	closed error         // why nothing can be appended any more
	more   chan struct{} // closed, and another one made, when more is durable
}

// batch is records that one Sync makes durable. Log.syncing guards it.
type batch struct {
	done bool
	err  error // for all of them
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
	l := &Log{o: o, number: number, last: last, more: make(chan struct{})}
	l.durable.last = last
	if err := l.beginFile(); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return l, nil
}

// Append puts e at the end of the chain. When it returns nil the record is durable; on an error it
// is not in the log. Records of several callers share a Sync.
func (l *Log) Append(e Event) error {
	b, err := l.write(&e)
	if err != nil {
		return err
	}
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if !b.done {
		l.settle(b)
	}
	return b.err
}

// write writes a record, and says with which others it becomes durable.
func (l *Log) write(e *Event) (*batch, error) {
	for {
		b, full, err := l.tryWrite(e)
		if b != nil || err != nil && full == nil {
			return b, err
		}
		if err := l.turn(full.file, err); err != nil {
			return nil, fmt.Errorf("audit: record can't be written: %w", err)
		}
	}
}

// page is the file that a record does not go into.
type page struct{ file *os.File }

// tryWrite is write, unless another file has to be begun before, or instead, because err has made this one unusable: then
// it gives the one that there is.
func (l *Log) tryWrite(e *Event) (*batch, *page, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return nil, nil, l.closed
	}
	line, next, err := l.encodeLocked(e)
	if err != nil {
		return nil, nil, err
	}
	if l.file == nil || l.size > 0 && l.size+int64(len(line)) > l.o.MaxFileBytes {
		return nil, &page{l.file}, nil
	}
	if _, err := l.file.WriteAt(line, l.size); err != nil {
		return nil, &page{l.file}, err
	}
	l.size += int64(len(line))
	l.last = next
	if l.batch == nil {
		l.batch = new(batch)
	}
	return l.batch, nil, nil
}

// turn ends the file old, if it is the present one still, and begins the next. failure is why a record could not be
// written to it: then it is returned, and what is not durable yet fails with it.
func (l *Log) turn(old *os.File, failure error) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if b := l.pending(); b != nil && failure == nil {
		l.settle(b)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case failure != nil && l.file == old:
		return l.undoLocked(failure)
	case failure != nil:
		return failure
	case l.closed != nil:
		return l.closed
	case l.file != old || l.batch != nil:
		return nil // others have begun one, or written something that was not too long
	case old != nil:
		l.dropFileLocked()
	}
	return l.beginFile()
}

// pending is the batch that no Sync has begun for.
func (l *Log) pending() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.batch
}

// settle makes b, which is the pending batch, durable, or takes it out of the log; syncing is held.
func (l *Log) settle(b *batch) {
	l.mu.Lock()
	file, size, last := l.file, l.size, l.last
	l.batch = nil
	l.mu.Unlock()
	err := file.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.durable.size, l.durable.last = size, last
		close(l.more)
		l.more = make(chan struct{})
	} else {
		err = fmt.Errorf("audit: record can't be written: %w", l.undoLocked(err))
	}
	b.done, b.err = true, err
}

// undoLocked leaves the file as it was when it was durable last, after failure, which it returns. What was written
// since has failed. A file that can't be left so is given up, and the log with it.
func (l *Log) undoLocked(failure error) error {
	if l.file == nil {
		return failure
	}
	if cut := errors.Join(l.file.Truncate(l.durable.size), l.file.Sync()); cut != nil {
		// What is at the end of the file can't be known, so nothing can follow it.
		l.closed = fmt.Errorf("audit: log is given up after a failed write: %w", cut)
		failure = errors.Join(failure, cut)
	}
	l.dropFileLocked()
	l.last = l.durable.last
	if l.batch != nil {
		l.batch.done, l.batch.err = true, fmt.Errorf("audit: record can't be written: %w", failure)
		l.batch = nil
	}
	return failure
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
	if len(line) > MaxLineBytes {
		return nil, link{}, ErrTooLarge
	}
	return line, next, nil
}

func (l *Log) dropFileLocked() {
	l.file.Close() // every line that counts is synced: nothing can be lost here
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
	l.file, l.size, l.durable.size = f, 0, 0
	return nil
}

// Close ends the log. A second call does nothing.
func (l *Log) Close() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if b := l.pending(); b != nil {
		l.settle(b)
	}
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
