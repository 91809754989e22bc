package forward

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/audit"
)

// Options say what a Forwarder is for.
type Options struct {
	Targets Targets // of which the Kind of the Forwarder is used
	Kind    Kind
	// Dir is where the log is, and Progress its method.
	Dir      string
	Progress func() (audit.Position, <-chan struct{})
	// Cursor is the path of the cursor file, which is for this Forwarder alone.
	Cursor string
	Log    *zap.Logger // nowhere by default
}

// EnsureDefaults fills in what was left zero.
func (o *Options) EnsureDefaults() {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
}

// Validate says what is wrong with o.
func (o *Options) Validate() error {
	if err := o.Targets.Validate(); err != nil {
		return err
	}
	if o.Dir == "" || o.Progress == nil || o.Cursor == "" || o.where() == "" {
		return errors.New("audit: forwarding needs a log, a cursor and a place to go")
	}
	return nil
}

func (o *Options) where() string { return o.Targets.of(o.Kind) }

// Status is how forwarding stands.
type Status struct {
	Kind      Kind
	Where     string
	Connected bool
	// Sent is how many records this process has sent, doubles too, and Failures how often the way there broke or could not be
	// opened.
	Sent, Failures uint64
	// Waiting are records that were not sent yet over the present connection, Undelivered those and the ones that may have to be sent again.
	Waiting, Undelivered uint64
	// Behind is since when records have been waiting; zero if none are.
	Behind time.Time
	// Err is why the last attempt failed; nil once one has not.
	Err error
}

// Forwarder sends records of a log to one place.
type Forwarder struct {
	o   Options
	log *zap.Logger

	stop   chan struct{} // closed by Close
	reopen chan struct{} // has room for one
	cancel context.CancelFunc
	ended  sync.WaitGroup
	once   sync.Once

	// Of the goroutine:
	delivered audit.Position
	written   audit.Position // delivered, as the cursor file has it
	writtenAt time.Time
	marks     []mark
	progress  bool // whether something was delivered over this connection

	mu     sync.Mutex
	status Status
	sentTo uint64 // sequence number of the record sent last over the present connection
	keptTo uint64 // that of the record delivered last
}

// mark is what was sent in a while.
type mark struct {
	after      audit.Position
	bytes      int64 // that the sink had sent then
	first, end time.Time
}

// Start begins to forward. A cursor that can't be read is an error.
func Start(o Options) (*Forwarder, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	at, err := readCursor(o.Cursor)
	if err != nil {
		return nil, fmt.Errorf("audit: where forwarding to %s was: %w; without that file it begins with the first record", o.where(), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &Forwarder{
		o: o, log: o.Log.With(zap.String("audit_to", o.where())), cancel: cancel,
		stop: make(chan struct{}), reopen: make(chan struct{}, 1), delivered: at, written: at,
		status: Status{Kind: o.Kind, Where: o.where()}, keptTo: at.Sequence, sentTo: at.Sequence,
	}
	f.ended.Go(func() { f.run(ctx) })
	return f, nil
}

// Reopen has the file opened anew, and a receiver that is away tried at once.
func (f *Forwarder) Reopen() {
	select {
	case f.reopen <- struct{}{}:
	default: // it is under way
	}
}

// Close sends what is in the log, for closeTimeout at most, and ends forwarding. It is called before the log's Close or after. A second call does
// nothing.
func (f *Forwarder) Close() {
	f.once.Do(func() {
		close(f.stop)
		defer time.AfterFunc(closeTimeout, f.cancel).Stop()
		f.ended.Wait()
		f.cancel()
	})
}

// Status says how it stands.
func (f *Forwarder) Status() Status {
	end, _ := f.o.Progress()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.status
	s.Waiting, s.Undelivered = end.Sequence-min(f.sentTo, end.Sequence), end.Sequence-min(f.keptTo, end.Sequence)
	if s.Waiting == 0 {
		s.Behind = time.Time{}
	}
	return s
}

func (f *Forwarder) run(ctx context.Context) {
	pause := firstPause
	for {
		f.progress = false
		err := f.session(ctx)
		if err == nil {
			return
		}
		if f.progress {
			pause = firstPause
		}
		if errors.Is(err, errMoved) || errors.Is(err, errReopen) {
			continue
		}
		f.failed(err)
		select {
		case <-f.stop:
			return
		case <-f.reopen:
			pause = firstPause
		case <-time.After(pause):
			pause = min(2*pause, longestPause)
		}
	}
}

// errReopen says that Reopen was called.
var errReopen = errors.New("opened anew")

// session opens the way and sends until it breaks, or with nil until Close.
func (f *Forwarder) session(ctx context.Context) error {
	s, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, s.Abort)()
	f.note(func(s *Status) { s.Connected = true })
	tail := audit.Follow(f.o.Dir, f.delivered)
	defer tail.Close()
	f.marks = f.marks[:0]
	err = f.forward(tail, s)
	if errors.Is(err, audit.ErrOtherLog) {
		f.log.Error("the audit log is not the one that was forwarded, or was changed: it is forwarded from its beginning",
			zap.Uint64("after", f.delivered.Sequence))
		f.deliver(audit.Position{})
	}
	f.keepCursor()
	if err != nil {
		s.Close() // what broke has been said
		return err
	}
	return s.Close()
}

func (f *Forwarder) open(ctx context.Context) (sink, error) {
	if f.o.Kind == File {
		return openFile(f.o.Targets.File)
	}
	return openSyslog(ctx, &f.o.Targets)
}

// errGone says that the receiver has ended the connection.
var errGone = errors.New("the receiver has ended the connection")

// forward sends what the log has and will have, until Close, or until it fails.
func (f *Forwarder) forward(tail *audit.Tail, s sink) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		limit, more := f.o.Progress()
		full, err := f.batch(tail, s, limit)
		if err != nil {
			return err
		}
		if err := f.settle(s); err != nil {
			return err
		}
		stop := f.stop
		if full { // there is more at hand
			more, stop = closed, nil
		}
		select {
		case <-s.Gone():
			return errGone
		case <-f.reopen:
			if f.o.Kind == File {
				return errReopen
			}
		case <-stop:
			return f.finish(tail, s)
		case <-more:
		case <-look.C:
		}
	}
}

// finish sends what became durable before Close was called and was not seen yet.
func (f *Forwarder) finish(tail *audit.Tail, s sink) error {
	limit, _ := f.o.Progress()
	for {
		if full, err := f.batch(tail, s, limit); err != nil || !full {
			return err
		}
	}
}

// closed is always ready.
var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// batch sends what is durable, batchBytes at most; full says that there is more.
func (f *Forwarder) batch(tail *audit.Tail, s sink, limit audit.Position) (full bool, err error) {
	var after audit.Position
	count, size := uint64(0), 0
	for size < batchBytes {
		e, err := tail.Next(limit)
		if err != nil {
			return false, err
		}
		if e == nil {
			break
		}
		if err := s.Add(e); err != nil {
			return false, err
		}
		after = e.After
		count, size = count+1, size+len(e.Line)
	}
	if count == 0 {
		f.note(func(s *Status) { s.Err, s.Behind = nil, time.Time{} })
		return false, nil
	}
	f.note(func(s *Status) { s.behindSince(time.Now()) })
	if err := s.Send(); err != nil {
		return false, err
	}
	f.mark(after, s.Sent(), time.Now())
	f.note(func(s *Status) { s.Sent, s.Err = s.Sent+count, nil; f.sentTo = after.Sequence })
	return size >= batchBytes, nil
}

// mark keeps in mind what was sent until now.
func (f *Forwarder) mark(after audit.Position, bytes int64, now time.Time) {
	if n := len(f.marks); n > 0 && now.Sub(f.marks[n-1].first) < settleStep {
		last := &f.marks[n-1]
		last.after, last.bytes, last.end = after, bytes, now
		return
	}
	f.marks = append(f.marks, mark{after, bytes, now, now})
}

// settle finds out what was delivered.
func (f *Forwarder) settle(s sink) error {
	now := time.Now()
	for len(f.marks) > 0 {
		m := &f.marks[0]
		if s.Settles() && now.Sub(m.end) < settleTime {
			break
		}
		taken, err := s.Taken()
		if err != nil {
			return err
		}
		if m.bytes > taken {
			break
		}
		f.deliver(m.after)
		f.marks = append(f.marks[:0], f.marks[1:]...)
	}
	if now.Sub(f.writtenAt) >= cursorEvery {
		f.keepCursor()
	}
	return nil
}

// deliver takes it that everything before a position need not be sent again.
func (f *Forwarder) deliver(after audit.Position) {
	f.delivered, f.progress = after, true
	f.note(func(*Status) { f.keptTo = after.Sequence })
}

// keepCursor writes the cursor. If that fails it is tried again later; more may be sent again.
func (f *Forwarder) keepCursor() {
	if f.delivered == f.written {
		return
	}
	f.writtenAt = time.Now()
	if err := writeCursor(f.o.Cursor, f.delivered); err != nil {
		f.log.Error("what was forwarded of the audit log can't be noted down, and may be sent again", zap.Error(err))
		return
	}
	f.written = f.delivered
}

// failed puts on view that the way is broken: what is not known to be delivered waits again.
func (f *Forwarder) failed(err error) {
	f.log.Warn("records of the audit log can't be forwarded now, it will be tried again; none is lost", zap.Error(err))
	f.note(func(s *Status) {
		s.Connected, s.Err, s.Failures = false, err, s.Failures+1
		s.behindSince(time.Now())
		f.sentTo = f.delivered.Sequence
	})
}

// note changes the status.
func (f *Forwarder) note(change func(*Status)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.status)
}

func (s *Status) behindSince(now time.Time) {
	if s.Behind.IsZero() {
		s.Behind = now
	}
}
