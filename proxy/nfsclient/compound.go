package nfsclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// ErrProtocol: the server's answer does not fit the question.
var ErrProtocol = errors.New("nfsclient: reply does not fit the request")

// OpError says which operation of a COMPOUND failed.
type OpError struct {
	Op     wire.Op
	Status wire.Status
}

// Error implements error.
func (e *OpError) Error() string { return e.Op.String() + ": " + e.Status.String() }

// Unwrap returns the status, for errors.Is.
func (e *OpError) Unwrap() error { return e.Status }

// Encoder writes an operation's arguments; all XxxArgs of package wire do.
type Encoder interface{ Encode(*xdr.Encoder) }

// Decoder reads an operation's result; all XxxRes of package wire do.
type Decoder interface{ Decode(*xdr.Decoder) }

// acquire waits for a free slot.
func (c *Client) acquire(ctx context.Context) (*call, error) {
	select {
	case q := <-c.slots:
		return q, nil
	default:
	}
	select {
	case q := <-c.slots:
		return q, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.t.dead:
		return nil, c.t.err
	}
}

// start begins a COMPOUND in q with SEQUENCE.
func (c *Client) start(q *call, cache bool) {
	q.begin(wire.Program, wire.RPCVersion, wire.ProcCompound)
	head := wire.CompoundArgs{MinorVersion: c.o.MinorVersion}
	head.Encode(&q.enc)
	q.countAt, q.ops = q.enc.Len()-4, 0
	args := wire.SequenceArgs{
		SessionID: c.sessionID, SequenceID: q.seq, SlotID: q.index,
		HighestSlot: uint32(min(c.o.Slots, int(c.fore.MaxRequests)) - 1), CacheThis: cache,
	}
	q.op(wire.OP_SEQUENCE)
	args.Encode(&q.enc)
}

// op appends the number of an operation; its arguments follow.
func (q *call) op(op wire.Op) {
	q.enc.Uint32(uint32(op))
	q.ops++
}

// add appends an operation.
func (q *call) add(op wire.Op, args Encoder) {
	q.op(op)
	if args != nil {
		args.Encode(&q.enc)
	}
}

// putFH appends PUTFH.
func (q *call) putFH(h Handle) {
	q.op(wire.OP_PUTFH)
	q.enc.String(string(h))
}

// finish sends the COMPOUND and reads the results up to that of SEQUENCE. lost says that q is no longer
// the caller's.
func (c *Client) finish(ctx context.Context, q *call) (lost bool, err error) {
	q.enc.PutUint32At(q.countAt, uint32(q.ops))
	if lost, err := q.do(ctx); err != nil {
		return lost, err
	}
	var head wire.CompoundRes
	head.Decode(&q.results)
	if head.Ops == 0 || q.results.Err() != nil {
		if head.Status != wire.NFS4_OK {
			return false, head.Status
		}
		return false, ErrProtocol
	}
	var res wire.SequenceRes
	if !q.next(wire.OP_SEQUENCE) {
		return false, q.err
	}
	res.Decode(&q.results)
	if q.results.Err() != nil || res.SessionID != c.sessionID || res.SlotID != q.index || res.SequenceID != q.seq {
		return false, ErrProtocol
	}
	q.seq++
	c.flags.Store(res.StatusFlags)
	c.used.Store(true)
	return false, nil
}

// next reads the head of the next result, which must be op's, and says whether it succeeded.
func (q *call) next(op wire.Op) bool {
	if q.err != nil {
		return false
	}
	got, status := wire.ReadResult(&q.results)
	switch {
	case q.results.Err() != nil || got != op && status != wire.NFS4ERR_OP_ILLEGAL:
		q.err = ErrProtocol
	case status != wire.NFS4_OK:
		q.err = &OpError{op, status}
	}
	return q.err == nil
}

// result reads the next result into res, if there is a body, and says whether it succeeded.
func (q *call) result(op wire.Op, res Decoder) bool {
	if !q.next(op) {
		return false
	}
	if res != nil {
		res.Decode(&q.results)
		if q.results.Err() != nil {
			q.err = fmt.Errorf("%w: %s: %w", ErrProtocol, op, q.results.Err())
		}
	}
	return q.err == nil
}

// compound runs one COMPOUND: build appends operations after SEQUENCE, parse reads their results. What
// parse is given is valid until it returns. NFS4ERR_DELAY and NFS4ERR_GRACE are tried again.
func (c *Client) compound(ctx context.Context, build, parse func(q *call)) error {
	return c.patiently(ctx, true, build, parse)
}

// query is compound for operations that change nothing: the server need not keep the reply for a repetition,
// and so it may be longer than what servers keep (ca_maxresponsesize_cached).
func (c *Client) query(ctx context.Context, build, parse func(q *call)) error {
	return c.patiently(ctx, false, build, parse)
}

func (c *Client) patiently(ctx context.Context, cache bool, build, parse func(q *call)) error {
	for delay := retryDelay; ; delay = min(2*delay, maxDelay) {
		err := c.compoundOnce(ctx, cache, build, parse)
		if !errors.Is(err, wire.NFS4ERR_DELAY) && !errors.Is(err, wire.NFS4ERR_GRACE) {
			return err
		}
		if err := sleep(ctx, delay); err != nil {
			return err
		}
	}
}

func (c *Client) compoundOnce(ctx context.Context, cache bool, build, parse func(q *call)) error {
	q, err := c.acquire(ctx)
	if err != nil {
		return err
	}
	c.start(q, cache)
	build(q)
	lost, err := c.finish(ctx, q)
	if lost {
		return err
	}
	defer q.release()
	if err != nil {
		return err
	}
	parse(q)
	return q.err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// RawOp is one operation of a raw COMPOUND.
type RawOp struct {
	Op   wire.Op
	Args Encoder // nil: none
}

// RawReply is the answer to a raw COMPOUND.
type RawReply struct {
	Status wire.Status // of the whole
	Tag    []byte
	Ops    int         // results there are
	Record []byte      // the whole RPC reply
	D      xdr.Decoder // stands at the next result
}

// Next reads the head of the next result.
func (r *RawReply) Next() (wire.Op, wire.Status) { return wire.ReadResult(&r.D) }

// Expect reads the next result, which must be a success of op, into res, which is nil where there is no
// body.
func (r *RawReply) Expect(op wire.Op, res Decoder) error {
	got, status := r.Next()
	switch {
	case r.D.Err() != nil:
		if r.Status != wire.NFS4_OK {
			return r.Status
		}
		return ErrProtocol
	case got != op:
		return fmt.Errorf("%w: result of %s instead of %s", ErrProtocol, got, op)
	case status != wire.NFS4_OK:
		return &OpError{op, status}
	case res != nil:
		res.Decode(&r.D)
	}
	return r.D.Err()
}

// Compound sends exactly these operations, without a SEQUENCE of its own: for tests, which may put one
// with any slot and sequence id in front. See HoldSlot. A status that is not NFS4_OK is no error here.
func (c *Client) Compound(ctx context.Context, minor uint32, ops ...RawOp) (*RawReply, error) {
	d, record, err := c.RawCall(ctx, wire.Program, wire.RPCVersion, wire.ProcCompound, func(e *xdr.Encoder) {
		head := wire.CompoundArgs{MinorVersion: minor, Ops: len(ops)}
		head.Encode(e)
		for _, op := range ops {
			e.Uint32(uint32(op.Op))
			if op.Args != nil {
				op.Args.Encode(e)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	r := &RawReply{Record: record, D: d}
	var head wire.CompoundRes
	head.Decode(&r.D)
	r.Status, r.Tag, r.Ops = head.Status, head.Tag, head.Ops
	if err := r.D.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return r, nil
}

// RawCall makes any RPC call and returns its results and the record that they are in, which belongs to
// the caller. A call that was not executed gives a *rpc.RejectedError.
func (c *Client) RawCall(ctx context.Context, program, version, procedure uint32,
	args func(*xdr.Encoder)) (results xdr.Decoder, record []byte, err error) {
	var q *call
	select {
	case q = <-c.raw:
	case <-ctx.Done():
		return xdr.Decoder{}, nil, ctx.Err()
	case <-c.t.dead:
		return xdr.Decoder{}, nil, c.t.err
	}
	q.begin(program, version, procedure)
	args(&q.enc)
	lost, err := q.do(ctx)
	if lost {
		return xdr.Decoder{}, nil, err
	}
	record, q.record = q.record, nil
	results = q.results
	q.release()
	var rejected *rpc.RejectedError
	if err != nil && !errors.As(err, &rejected) {
		return xdr.Decoder{}, nil, err
	}
	return results, record, err
}

// HoldSlot takes a slot away from the client's own calls, for tests that number their requests
// themselves. next is the sequence id of the slot's next request; release wants to know what it is then.
func (c *Client) HoldSlot(ctx context.Context) (slot, next uint32, release func(next uint32), err error) {
	q, err := c.acquire(ctx)
	if err != nil {
		return 0, 0, nil, err
	}
	return q.index, q.seq, func(next uint32) {
		q.seq = next
		q.release()
	}, nil
}
