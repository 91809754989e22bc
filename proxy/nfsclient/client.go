package nfsclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
)

// Client is one client record and one session on one connection.
type Client struct {
	o     Options
	t     *transport
	slots chan *call // free calls with a slot
	raw   chan *call // free calls without one

	clientID  wire.ClientID
	sessionID wire.SessionID
	exchanged wire.ExchangeIDRes
	fore      wire.ChannelAttrs

	maxRead  int
	maxWrite int
	lease    time.Duration

	flags atomic.Uint32 // of the last SEQUENCE
	used  atomic.Bool   // since the last renewal

	stop    chan struct{} // closed by Close
	closing sync.Once
	wg      sync.WaitGroup
}

// New makes a client and a session on conn, which belongs to the client from here on, even if New
// fails. The context is for New alone.
func New(ctx context.Context, conn net.Conn, o Options) (*Client, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		conn.Close()
		return nil, err
	}
	auth := rpc.Auth{Flavor: rpc.AuthSys, Machine: []byte(o.Machine), UID: o.UID, GID: o.GID, GIDs: o.Groups}
	c := &Client{
		o: o, t: newTransport(conn, auth, o.MaxBytes),
		slots: make(chan *call, MaxSlots), raw: make(chan *call, rawCalls), stop: make(chan struct{}),
	}
	for i := range rawCalls {
		c.raw <- c.t.newCall(MaxSlots+i, c.raw)
	}
	if err := c.setUp(ctx); err != nil {
		c.t.close(ErrClosed)
		return nil, err
	}
	if !o.NoRenew {
		c.wg.Go(c.renew)
	}
	return c, nil
}

// setUp brings the session into being.
func (c *Client) setUp(ctx context.Context) error {
	if err := c.exchangeID(ctx); err != nil {
		return fmt.Errorf("nfsclient: EXCHANGE_ID: %w", err)
	}
	if err := c.createSession(ctx); err != nil {
		return fmt.Errorf("nfsclient: CREATE_SESSION: %w", err)
	}
	if !c.o.Reclaim {
		if err := c.ReclaimComplete(ctx); err != nil {
			return err
		}
	}
	return c.learnLimits(ctx)
}

// exchangeID makes the client known.
func (c *Client) exchangeID(ctx context.Context) error {
	args := wire.ExchangeIDArgs{
		Verifier: c.o.Verifier, OwnerID: []byte(c.o.Owner), Flags: wire.EXCHGID4_FLAG_USE_NON_PNFS,
	}
	r, err := c.Compound(ctx, c.o.MinorVersion, RawOp{wire.OP_EXCHANGE_ID, &args})
	if err != nil {
		return err
	}
	if err := r.Expect(wire.OP_EXCHANGE_ID, &c.exchanged); err != nil {
		return err
	}
	c.clientID = c.exchanged.ClientID
	return nil
}

// createSession makes the session and its slots.
func (c *Client) createSession(ctx context.Context) error {
	channel := wire.ChannelAttrs{
		MaxRequestSize: uint32(c.o.MaxBytes), MaxResponseSize: uint32(c.o.MaxBytes),
		MaxResponseSizeCached: 4 << 10, MaxOperations: maxOps, MaxRequests: uint32(c.o.Slots),
	}
	args := wire.CreateSessionArgs{
		ClientID: c.clientID, SequenceID: c.exchanged.SequenceID, Fore: channel,
		Back: wire.ChannelAttrs{
			MaxRequestSize: 4 << 10, MaxResponseSize: 4 << 10, MaxOperations: 2, MaxRequests: 1,
		},
		CBProgram: 0x40000000, Sec: []wire.CallbackSec{{}},
	}
	r, err := c.Compound(ctx, c.o.MinorVersion, RawOp{wire.OP_CREATE_SESSION, &args})
	if err != nil {
		return err
	}
	var res wire.CreateSessionRes
	if err := r.Expect(wire.OP_CREATE_SESSION, &res); err != nil {
		return err
	}
	c.sessionID, c.fore = res.SessionID, res.Fore
	for i := range min(c.o.Slots, int(res.Fore.MaxRequests)) {
		c.slots <- c.t.newCall(i, c.slots)
	}
	return nil
}

// learnLimits asks for the lease and for the largest READ and WRITE.
func (c *Client) learnLimits(ctx context.Context) error {
	root, err := c.Root(ctx)
	if err != nil {
		return err
	}
	var a wire.Attrs
	mask := wire.BitmapOf(wire.FATTR4_LEASE_TIME, wire.FATTR4_MAXREAD, wire.FATTR4_MAXWRITE)
	if err := c.GetAttr(ctx, root, mask, &a); err != nil {
		return err
	}
	c.lease = time.Duration(a.LeaseTime) * time.Second
	c.maxRead = int(min(a.MaxRead, uint64(c.fore.MaxResponseSize)-headerBytes))
	c.maxWrite = int(min(a.MaxWrite, uint64(c.fore.MaxRequestSize)-headerBytes))
	if c.maxRead <= 0 || c.maxWrite <= 0 || c.lease <= 0 {
		return fmt.Errorf("nfsclient: server offers reads of %d bytes, writes of %d, a lease of %v",
			c.maxRead, c.maxWrite, c.lease)
	}
	return nil
}

// ReclaimComplete says that nothing is left to reclaim (RFC 8881 §18.51). New has done it, unless
// Options.Reclaim is set.
func (c *Client) ReclaimComplete(ctx context.Context) error {
	return c.compound(ctx, func(q *call) {
		q.add(wire.OP_RECLAIM_COMPLETE, &wire.ReclaimCompleteArgs{})
	}, func(q *call) {
		q.result(wire.OP_RECLAIM_COMPLETE, nil)
	})
}

// Renew does nothing but renew the lease.
func (c *Client) Renew(ctx context.Context) error {
	return c.compound(ctx, func(*call) {}, func(*call) {})
}

// renew renews the lease while nothing else does.
func (c *Client) renew() {
	ticker := time.NewTicker(c.lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-c.t.dead:
			return
		case <-ticker.C:
		}
		if c.used.Swap(false) {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), c.lease)
		c.Renew(ctx) // a failure shows in the next call
		cancel()
	}
}

// Close destroys session and client record as far as the server lets it in a short time, closes the
// connection and waits for the client's goroutines. Calls under way fail. A second Close does nothing.
func (c *Client) Close() error {
	var err error
	c.closing.Do(func() {
		close(c.stop)
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		err = c.tearDown(ctx)
		c.shut()
	})
	return err
}

// Abandon closes the connection and leaves session and client record to the server, as a client that
// crashes does. No Close is needed after it.
func (c *Client) Abandon() {
	c.closing.Do(func() {
		close(c.stop)
		c.shut()
	})
}

func (c *Client) shut() {
	c.t.close(ErrClosed)
	c.wg.Wait()
}

// tearDown destroys the session, then the client record. State that is left there is no error.
func (c *Client) tearDown(ctx context.Context) error {
	r, err := c.Compound(ctx, c.o.MinorVersion,
		RawOp{wire.OP_DESTROY_SESSION, &wire.DestroySessionArgs{SessionID: c.sessionID}})
	if err == nil {
		err = r.Expect(wire.OP_DESTROY_SESSION, nil)
	}
	if err != nil {
		return ignoreGone(err)
	}
	r, err = c.Compound(ctx, c.o.MinorVersion,
		RawOp{wire.OP_DESTROY_CLIENTID, &wire.DestroyClientIDArgs{ClientID: c.clientID}})
	if err == nil {
		err = r.Expect(wire.OP_DESTROY_CLIENTID, nil)
	}
	return ignoreGone(err)
}

// ignoreGone drops errors that say that what was to be destroyed is in use or gone.
func ignoreGone(err error) error {
	for _, s := range []wire.Status{
		wire.NFS4ERR_CLIENTID_BUSY, wire.NFS4ERR_STALE_CLIENTID, wire.NFS4ERR_BADSESSION, wire.NFS4ERR_DEADSESSION,
	} {
		if errors.Is(err, s) {
			return nil
		}
	}
	return err
}

// ClientID is the server's name of this client.
func (c *Client) ClientID() wire.ClientID { return c.clientID }

// SessionID is the session's.
func (c *Client) SessionID() wire.SessionID { return c.sessionID }

// Server is what the server said of itself in EXCHANGE_ID.
func (c *Client) Server() wire.ExchangeIDRes { return c.exchanged }

// Channel is what was agreed for the session's fore channel.
func (c *Client) Channel() wire.ChannelAttrs { return c.fore }

// MaxRead is how many bytes one ReadAt gets at most.
func (c *Client) MaxRead() int { return c.maxRead }

// MaxWrite is how many bytes one WriteAt takes at most.
func (c *Client) MaxWrite() int { return c.maxWrite }

// Lease is the server's lease time.
func (c *Client) Lease() time.Duration { return c.lease }

// StatusFlags are those of the last SEQUENCE (SEQ4_STATUS_).
func (c *Client) StatusFlags() uint32 { return c.flags.Load() }

// Done is closed when the connection is gone.
func (c *Client) Done() <-chan struct{} { return c.t.dead }
