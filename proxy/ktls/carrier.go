package ktls

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/nfseal/nfseal/proxy/tlsrecord"
)

// Session is a TLS session under way: a *Conn, or a *tlsrecord.Conn.
type Session interface {
	net.Conn
	// CloseWrite sends close_notify, after which nothing more can be written.
	CloseWrite() error
	// WriteBuffers writes the contents of all of v as one stream, and leaves v as it is.
	WriteBuffers(v [][]byte) (int64, error)
	// MoveFrom sends all that src sends, and adds it to moved as it goes. Nil is src's end, which is not passed on. With
	// ErrNoPipe nothing was moved, and Write can do it.
	MoveFrom(src *net.TCPConn, moved *atomic.Uint64) error
	// MoveTo is MoveFrom the other way; nil is the session's orderly end, and Read can do it.
	MoveTo(dst *net.TCPConn, moved *atomic.Uint64) error
	// Buffered says whether something was received before that Read has not taken: data, an end, or a record without data.
	Buffered() bool
	// ReadBuffered is Read of that alone: it does not wait, and returns 0 and no error where that is no data.
	ReadBuffered(p []byte) (int, error)
	// Pending says whether Read would not wait, or only for the rest of a record.
	Pending() bool
}

// Use says whether the kernel carries sessions.
type Use string

// The uses.
const (
	UseAuto Use = "auto" // if it can, as fast as user space; else user space does
	UseOn   Use = "on"   // if it can, or New fails; a session that can't be handed over is still carried in user space
	UseOff  Use = "off"  // never
)

// ErrInvalid: a setting makes no sense.
var ErrInvalid = errors.New("ktls: invalid setting")

// Reason is why a session is carried in user space.
type Reason int

// The reasons.
const (
	ReasonOff      Reason = iota // the setting
	ReasonNoKernel               // the kernel has no TLS
	ReasonNoRekey                // TLS 1.3, and the kernel takes no new keys on the way
	ReasonNotTCP                 // the connection is no TCP socket
	ReasonRefused                // the kernel refused this one, as it does when the peer has closed already
	ReasonSlow                   // the kernel would be slower, for want of the processor's AES instructions
	reasons
)

// String is the reason in metrics.
func (r Reason) String() string {
	return [reasons]string{"off", "no_kernel", "no_rekey", "not_tcp", "refused", "slow"}[r]
}

// Options configure a Carrier.
type Options struct {
	// Use is UseAuto by default.
	Use Use
	// Renew lets the kernel carry sessions of TLS 1.3 though it takes no new keys: they end with ErrRenew when
	// new ones are due. It is for who connects again by himself.
	Renew bool
}

// EnsureDefaults fills what was left zero.
func (o *Options) EnsureDefaults() {
	if o.Use == "" {
		o.Use = UseAuto
	}
}

// Validate says what can't work.
func (o *Options) Validate() error {
	if o.Use != UseAuto && o.Use != UseOn && o.Use != UseOff {
		return fmt.Errorf("%w: %q is not auto, on or off", ErrInvalid, o.Use)
	}
	return nil
}

// Stats are counters since the start, and Open, which is now.
type Stats struct {
	// Kernel sessions were given to the kernel; Open of them are.
	Kernel uint64
	Open   int64
	// User sessions are carried in user space, by reason.
	User [reasons]uint64
	// Rekeyed counts new keys of a direction that the kernel took, Renew sessions that ended with ErrRenew.
	Rekeyed, Renew uint64
}

// Carrier decides who carries sessions. Its methods may be called concurrently; a nil *Carrier leaves all in
// user space.
type Carrier struct {
	o       Options
	support Support

	open                   atomic.Int64
	kernel, rekeyed, renew atomic.Uint64
	user                   [reasons]atomic.Uint64
}

// New checks the options, and with UseOn whether the kernel can.
func New(o Options) (*Carrier, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	c := &Carrier{o: o}
	if o.Use != UseOff {
		c.support = Probe()
	}
	if o.Use == UseOn && c.support.Err != nil {
		return nil, fmt.Errorf("ktls: kernel TLS is to be on: %w", c.support.Err)
	}
	return c, nil
}

// Stats gives the counters.
func (c *Carrier) Stats() Stats {
	if c == nil {
		return Stats{}
	}
	s := Stats{
		Kernel: c.kernel.Load(), Open: c.open.Load(), Rekeyed: c.rekeyed.Load(), Renew: c.renew.Load(),
	}
	for r := range c.user {
		s.User[r] = c.user[r].Load()
	}
	return s
}

// Carry carries the session of k, whose keys are wiped. k's connection belongs to the Session, and is left
// open on an error.
func (c *Carrier) Carry(k *tlsrecord.Keys) (Session, error) {
	if c == nil {
		return inUserSpace(k)
	}
	raw, reason := c.fit(k)
	if raw == nil {
		c.user[reason].Add(1)
		return inUserSpace(k)
	}
	conn, err := c.handOver(raw, k)
	switch {
	case errors.Is(err, errRefused):
		c.user[ReasonRefused].Add(1)
		return inUserSpace(k)
	case err != nil:
		return nil, err
	}
	c.kernel.Add(1)
	c.open.Add(1)
	return conn, nil
}

func inUserSpace(k *tlsrecord.Keys) (Session, error) {
	conn, err := k.Conn()
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// fit gives the socket that the kernel is to have the session of, or nil and why it is not to.
func (c *Carrier) fit(k *tlsrecord.Keys) (*net.TCPConn, Reason) {
	in, out := k.Traffic()
	defer in.Wipe()
	defer out.Wipe()
	raw, ok := k.NetConn().(*net.TCPConn)
	switch {
	case c.o.Use == UseOff:
		return nil, ReasonOff
	case !ok:
		return nil, ReasonNotTCP
	case in.IsTLS13() && c.support.TLS13 && !c.support.Rekey && !c.o.Renew:
		return nil, ReasonNoRekey
	case in.IsTLS13() && !c.support.TLS13, !c.support.TLS12:
		return nil, ReasonNoKernel
	case c.o.Use == UseAuto && c.support.Slow:
		return nil, ReasonSlow
	}
	return raw, 0
}

// errRefused: the kernel took nothing of a session, whose connection is as it was.
var errRefused = errors.New("ktls: refused")

// handOver gives the session to the kernel.
func (c *Carrier) handOver(raw *net.TCPConn, k *tlsrecord.Keys) (*Conn, error) {
	in, out := k.Traffic()
	defer in.Wipe()
	defer out.Wipe()
	socket, err := raw.SyscallConn()
	if err != nil {
		return nil, errors.Join(errRefused, err)
	}
	if err := attach(socket); err != nil {
		return nil, errors.Join(errRefused, err)
	}
	if err := setKeys(socket, optRX, &in); err != nil {
		return nil, errors.Join(errRefused, err)
	}
	// Received records are the kernel's now: there is no way back.
	if err := setKeys(socket, optTX, &out); err != nil {
		k.Wipe()
		return nil, fmt.Errorf("ktls: the kernel took one direction of a session and not the other: %w", err)
	}
	defer k.Wipe()
	if in.IsTLS13() {
		expectNoPad(socket)
	}
	return newConn(c, raw, socket, k.IsServer(), &in, &out), nil
}
