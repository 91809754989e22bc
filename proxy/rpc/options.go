package rpc

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// Handler executes calls.
type Handler interface {
	// Handle executes call and writes the whole reply, which begins with one of the Call's
	// methods Succeed, ProgUnavail, ProgMismatch, ProcUnavail, GarbageArgs, SystemErr or
	// AuthError. Writing it may wait for memory, so nothing is locked then that others need. reply.Len counts RPC headers but no record mark, as RFC 8881 §18.36 wants its
	// sizes counted. A reply left empty is not sent; one left in error becomes SystemErr.
	//
	// Handle is called by up to MaxInFlight goroutines at once. call, and all that its slices
	// point to, belong to the handler until Handle returns, and no longer. The context is not
	// cancelled when the connection ends, so that what was begun is finished; only after
	// DrainTimeout it is.
	Handle(ctx context.Context, call *Call, reply *xdr.Encoder)
}

// QuickHandler is a Handler that knows of some calls that they take less time than it takes to hand them to
// another goroutine, unless something unusual happens: those are handled by the goroutine that reads, even
// while others are under way.
type QuickHandler interface {
	Handler
	// Quick looks at a call that is about to be handled and leaves it as it is.
	Quick(call *Call) bool
}

// Options are the settings of one served connection. Zero durations and sizes mean the default,
// negative durations mean no limit.
type Options struct {
	MaxRecordBytes int           // greatest call; the connection ends on a greater one
	MaxReplyBytes  int           // greatest reply
	MaxInFlight    int           // calls under way at once
	IdleTimeout    time.Duration // with nothing arriving
	RestAfter      time.Duration // with nothing arriving, until the read-ahead buffer is given back
	RecordTimeout  time.Duration // for the rest of a record that has begun, or for each 64 KiB of it
	WriteTimeout   time.Duration // for the client to fetch a batch of replies
	DrainTimeout   time.Duration // for calls under way at the end
	Takeover       time.Duration // negative: no call is handled by the reader

	// Lone is called for each call that came while nothing else of its connection was under way, before it is
	// handled, by many goroutines; nil is not called.
	Lone func()

	// Buffers is the pool to take records and replies from; nil makes one for this connection, of DefaultBufferBytes.
	Buffers *Buffers
	// Stats is counted up; nil counts for nobody.
	Stats *Stats
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	setDefault(&o.MaxRecordBytes, DefaultMaxRecordBytes)
	setDefault(&o.MaxReplyBytes, DefaultMaxRecordBytes)
	setDefault(&o.MaxInFlight, DefaultMaxInFlight)
	setDefault(&o.IdleTimeout, DefaultIdleTimeout)
	setDefault(&o.RestAfter, DefaultRestAfter)
	setDefault(&o.RecordTimeout, DefaultRecordTimeout)
	setDefault(&o.WriteTimeout, DefaultWriteTimeout)
	setDefault(&o.DrainTimeout, DefaultDrainTimeout)
	setDefault(&o.Takeover, DefaultTakeover)
	if o.Buffers == nil {
		o.Buffers = NewBuffers(DefaultBufferBytes)
	}
	if o.Stats == nil {
		o.Stats = new(Stats)
	}
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Validate says what is out of range, after EnsureDefaults.
func (o *Options) Validate() error {
	if o.MaxRecordBytes < minRecordBytes || o.MaxRecordBytes > maxRecordLimit {
		return fmt.Errorf("rpc: MaxRecordBytes %d is not in [%d, %d]", o.MaxRecordBytes, minRecordBytes, maxRecordLimit)
	}
	if o.MaxReplyBytes < minRecordBytes || o.MaxReplyBytes > maxRecordLimit {
		return fmt.Errorf("rpc: MaxReplyBytes %d is not in [%d, %d]", o.MaxReplyBytes, minRecordBytes, maxRecordLimit)
	}
	if o.MaxInFlight < 1 || o.MaxInFlight > maxInFlightLimit {
		return fmt.Errorf("rpc: MaxInFlight %d is not in [1, %d]", o.MaxInFlight, maxInFlightLimit)
	}
	return nil
}

// Stats counts over all connections that share it. Read it at any time.
type Stats struct {
	Connections atomic.Int64  // being served now
	Resting     atomic.Int64  // of them without a read-ahead buffer
	InFlight    atomic.Int64  // calls begun, replies not yet written
	Calls       atomic.Uint64 // given to the handler
	BytesIn     atomic.Uint64 // of records, marks included
	BytesOut    atomic.Uint64
	Oversized   atomic.Uint64 // connections ended by a record over the limit
	Malformed   atomic.Uint64 // records that are no call and no reply
	Refused     atomic.Uint64 // calls of another RPC version or with a bad credential
	Replies     atomic.Uint64 // REPLY messages that arrived
	CallsOut    atomic.Uint64 // sent to clients
	Inline      atomic.Uint64 // calls handled by the reader
	Takeovers   atomic.Uint64 // inline calls that took long
	Writes      atomic.Uint64 // batches of replies written
	ReplyErrors atomic.Uint64 // replies that the handler left in error
}
