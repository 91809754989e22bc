package nfsclient

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// defaultOwner is the open-owner and lock-owner of those who name none.
const defaultOwner = "nfsclient"

// OpenOptions say how a file is opened.
type OpenOptions struct {
	Read  bool // Read and Write false: read
	Write bool
	Deny  uint32 // OPEN4_SHARE_DENY_
	Owner string // open-owner; two opens of one file by the same owner are one open

	// Create makes the file if it is not there, with the attributes given or mode 0644.
	Create bool
	How    wire.CreateMode
	// Verifier is for the exclusive modes; zero: a random one.
	Verifier wire.Verifier
	Attrs    *wire.Attrs
	// Claim other than CLAIM_NULL: CLAIM_FH, CLAIM_PREVIOUS; dir is the file itself then and name
	// counts for nothing.
	Claim wire.ClaimType
}

// access returns the share access of the options.
func (o *OpenOptions) access() uint32 {
	switch {
	case o.Read && o.Write:
		return wire.OPEN4_SHARE_ACCESS_BOTH
	case o.Write:
		return wire.OPEN4_SHARE_ACCESS_WRITE
	}
	return wire.OPEN4_SHARE_ACCESS_READ
}

// File is an open file.
type File struct {
	c      *Client
	handle Handle
	open   wire.Stateid

	mu    sync.Mutex
	locks map[string]wire.Stateid // by lock-owner
}

// Open opens name in dir and returns its BasicAttrs too.
func (c *Client) Open(ctx context.Context, dir Handle, name string, o OpenOptions) (*File, wire.Attrs, error) {
	args := c.openArgs(name, &o)
	f := &File{c: c, locks: make(map[string]wire.Stateid)}
	var a wire.Attrs
	err := c.compound(ctx, func(q *call) {
		q.putFH(dir)
		q.add(wire.OP_OPEN, args)
		q.add(wire.OP_GETFH, nil)
		q.getAttr(BasicAttrs)
	}, func(q *call) {
		var res wire.OpenRes
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_OPEN, &res)
		f.open = res.Stateid
		f.handle = q.handle()
		q.attrs(&a)
	})
	if err != nil {
		return nil, a, err
	}
	return f, a, nil
}

// openArgs translates the options.
func (c *Client) openArgs(name string, o *OpenOptions) *wire.OpenArgs {
	if o.Owner == "" {
		o.Owner = defaultOwner
	}
	args := &wire.OpenArgs{
		ShareAccess: o.access() | wire.OPEN4_SHARE_ACCESS_WANT_NO_DELEG, ShareDeny: o.Deny,
		Owner:  wire.Owner{ClientID: c.clientID, Owner: []byte(o.Owner)},
		Create: o.Create, CreateMode: o.How, Verifier: o.Verifier,
		Claim: o.Claim, Name: []byte(name),
	}
	if args.Attrs = modeAttrs(0o644); o.Attrs != nil {
		args.Attrs = *o.Attrs
	}
	if args.Verifier == (wire.Verifier{}) {
		binary.BigEndian.PutUint64(args.Verifier[:], rand.Uint64())
	}
	return args
}

// Handle is the file's handle.
func (f *File) Handle() Handle { return f.handle }

// Stateid is the open's, as OPEN returned it.
func (f *File) Stateid() wire.Stateid { return f.open }

// current is the open's stateid whatever its seqid has become: another Open of the same file by the same
// owner raises it (RFC 8881 §8.2.2).
func (f *File) current() wire.Stateid {
	s := f.open
	s.Seqid = 0
	return s
}

// ReadAt reads at most MaxRead bytes into p from offset. It may return fewer than len(p) without eof.
func (f *File) ReadAt(ctx context.Context, p []byte, offset uint64) (n int, eof bool, err error) {
	q, res, err := f.read(ctx, offset, len(p))
	if err != nil {
		return 0, false, err
	}
	defer q.release()
	return copy(p, res.Data), res.EOF, nil
}

// View shows use at most n bytes from offset, and MaxRead, where they were received: they are its own until it returns, and
// so is one of the client's slots. There may be fewer without eof. n is 0 or more.
func (f *File) View(ctx context.Context, offset uint64, n int, use func(data []byte) error) (eof bool, err error) {
	q, res, err := f.read(ctx, offset, n)
	if err != nil {
		return false, err
	}
	defer q.release()
	return res.EOF, use(res.Data)
}

// read does READ. Without an error the result is good until the caller releases q.
func (f *File) read(ctx context.Context, offset uint64, n int) (q *call, res wire.ReadRes, err error) {
	if q, err = f.c.acquire(ctx); err != nil {
		return nil, res, err
	}
	f.c.start(q, false)
	q.putFH(f.handle)
	args := wire.ReadArgs{Stateid: f.current(), Offset: offset, Count: uint32(min(n, f.c.maxRead))}
	q.op(wire.OP_READ)
	args.Encode(&q.enc)
	lost, err := f.c.finish(ctx, q)
	if lost {
		return nil, res, err
	}
	if err == nil {
		err = q.readResult(&res, args.Count)
	}
	if err != nil {
		q.release()
		return nil, res, err
	}
	return q, res, nil
}

func (q *call) readResult(res *wire.ReadRes, most uint32) error {
	q.result(wire.OP_PUTFH, nil)
	if !q.next(wire.OP_READ) {
		return q.err
	}
	res.Decode(&q.results)
	if q.results.Err() != nil || len(res.Data) > int(most) {
		return ErrProtocol
	}
	return nil
}

// behindBytes is from how many bytes on what is written is not copied into the request.
const behindBytes = 32 << 10

// WriteAt writes at most MaxWrite bytes of p at offset; fewer than len(p) may be written. After an error that is not the
// server's the request may still be on its way: until the client is closed, p can be read, and what it holds then be written.
func (f *File) WriteAt(ctx context.Context, p []byte, offset uint64, stable wire.StableHow) (wire.WriteRes, error) {
	var res wire.WriteRes
	q, err := f.c.acquire(ctx)
	if err != nil {
		return res, err
	}
	f.c.start(q, true)
	q.putFH(f.handle)
	p = p[:min(len(p), f.c.maxWrite)]
	q.op(wire.OP_WRITE)
	q.writeArgs(wire.WriteArgs{Stateid: f.current(), Offset: offset, Stable: stable, Data: p})
	lost, err := f.c.finish(ctx, q)
	if lost {
		return res, err
	}
	defer q.release()
	if err != nil {
		return res, err
	}
	q.result(wire.OP_PUTFH, nil)
	if !q.next(wire.OP_WRITE) {
		return res, q.err
	}
	res.Decode(&q.results)
	if q.results.Err() != nil || int(res.Count) > len(p) {
		return wire.WriteRes{}, ErrProtocol
	}
	return res, nil
}

// writeArgs appends the arguments of WRITE, the request's last operation.
func (q *call) writeArgs(args wire.WriteArgs) {
	n := len(args.Data)
	if n < behindBytes || n%4 != 0 { // which would want padding behind it
		args.Encode(&q.enc)
		return
	}
	q.behind, args.Data = args.Data, nil
	args.Encode(&q.enc)
	q.enc.PutUint32At(q.enc.Len()-4, uint32(n))
}

// Commit makes earlier writes durable (0, 0: all of them) and returns the write verifier.
func (f *File) Commit(ctx context.Context, offset uint64, count uint32) (v wire.Verifier, err error) {
	err = f.c.compound(ctx, func(q *call) {
		q.putFH(f.handle)
		q.add(wire.OP_COMMIT, &wire.CommitArgs{Offset: offset, Count: count})
	}, func(q *call) {
		var res wire.CommitRes
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_COMMIT, &res)
		v = res.Verifier
	})
	return v, err
}

// Truncate sets the file's size in bytes; the file is open for writing.
func (f *File) Truncate(ctx context.Context, size uint64) error {
	return f.c.SetAttr(ctx, f.handle, f.current(), &wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_SIZE), Size: size})
}

// Downgrade narrows the share access to what o says.
func (f *File) Downgrade(ctx context.Context, o OpenOptions) error {
	return f.c.compound(ctx, func(q *call) {
		q.putFH(f.handle)
		q.add(wire.OP_OPEN_DOWNGRADE, &wire.OpenDowngradeArgs{
			Stateid: f.current(), ShareAccess: o.access(), ShareDeny: o.Deny,
		})
	}, func(q *call) {
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_OPEN_DOWNGRADE, &wire.OpenDowngradeRes{})
	})
}

// Close closes the file, with all its locks.
func (f *File) Close(ctx context.Context) error {
	return f.c.compound(ctx, func(q *call) {
		q.putFH(f.handle)
		q.add(wire.OP_CLOSE, &wire.CloseArgs{Stateid: f.current()})
	}, func(q *call) {
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_CLOSE, &wire.CloseRes{})
	})
}

// Range is a range of bytes to lock. Length 0 means to the end of the file.
type Range struct {
	Offset, Length uint64
	Write          bool   // exclusive
	Owner          string // lock-owner
	Reclaim        bool   // after a restart of the server
}

func (r *Range) lockType() wire.LockType {
	if r.Write {
		return wire.WRITE_LT
	}
	return wire.READ_LT
}

func (r *Range) length() uint64 {
	if r.Length == 0 {
		return 1<<64 - 1
	}
	return r.Length
}

func (r *Range) owner() string {
	if r.Owner == "" {
		return defaultOwner
	}
	return r.Owner
}

// LockedError says which lock stands in the way. It wraps NFS4ERR_DENIED.
type LockedError struct{ Holder wire.LockDenied }

// Error implements error.
func (e *LockedError) Error() string {
	return fmt.Sprintf("byte range from %d, length %d, is locked", e.Holder.Offset, e.Holder.Length)
}

// Unwrap returns NFS4ERR_DENIED.
func (e *LockedError) Unwrap() error { return wire.NFS4ERR_DENIED }

// Lock locks r, or fails with a *LockedError.
func (f *File) Lock(ctx context.Context, r Range) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	held, known := f.locks[r.owner()]
	args := wire.LockArgs{
		Type: r.lockType(), Reclaim: r.Reclaim, Offset: r.Offset, Length: r.length(),
		NewOwner: !known, OpenStateid: f.current(), LockStateid: held,
		Owner: wire.Owner{ClientID: f.c.clientID, Owner: []byte(r.owner())},
	}
	return f.c.compound(ctx, func(q *call) {
		q.putFH(f.handle)
		q.add(wire.OP_LOCK, &args)
	}, func(q *call) {
		var res wire.LockRes
		q.result(wire.OP_PUTFH, nil)
		if q.result(wire.OP_LOCK, &res) {
			f.locks[r.owner()] = res.Stateid
		}
		q.denied()
	})
}

// TestLock says whether Lock would succeed: nil, or a *LockedError.
func (f *File) TestLock(ctx context.Context, r Range) error {
	args := wire.LockTArgs{
		Type: r.lockType(), Offset: r.Offset, Length: r.length(),
		Owner: wire.Owner{ClientID: f.c.clientID, Owner: []byte(r.owner())},
	}
	return f.c.compound(ctx, func(q *call) {
		q.putFH(f.handle)
		q.add(wire.OP_LOCKT, &args)
	}, func(q *call) {
		q.result(wire.OP_PUTFH, nil)
		q.result(wire.OP_LOCKT, nil)
		q.denied()
	})
}

// denied reads the body that NFS4ERR_DENIED has.
func (q *call) denied() {
	if !errors.Is(q.err, wire.NFS4ERR_DENIED) {
		return
	}
	e := new(LockedError)
	if e.Holder.Decode(&q.results); q.results.Err() != nil {
		q.err = ErrProtocol
		return
	}
	e.Holder.Owner.Owner = append([]byte(nil), e.Holder.Owner.Owner...)
	q.err = e
}

// Unlock unlocks r, all or a part of what its owner has locked.
func (f *File) Unlock(ctx context.Context, r Range) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	args := wire.LockUArgs{
		Type: r.lockType(), Stateid: f.locks[r.owner()], Offset: r.Offset, Length: r.length(),
	}
	return f.c.compound(ctx, func(q *call) {
		q.putFH(f.handle)
		q.add(wire.OP_LOCKU, &args)
	}, func(q *call) {
		var res wire.LockURes
		q.result(wire.OP_PUTFH, nil)
		if q.result(wire.OP_LOCKU, &res) {
			f.locks[r.owner()] = res.Stateid
		}
	})
}

// WriteFile makes or overwrites dir/name with data, durably.
func (c *Client) WriteFile(ctx context.Context, dir Handle, name string, data []byte, mode uint32) error {
	attrs := wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_MODE, wire.FATTR4_SIZE), Mode: mode}
	f, _, err := c.Open(ctx, dir, name, OpenOptions{Write: true, Create: true, Attrs: &attrs})
	if err != nil {
		return err
	}
	err = f.writeAll(ctx, data)
	return errors.Join(err, f.Close(ctx))
}

// writeAll writes data from the start of the file, durably.
func (f *File) writeAll(ctx context.Context, data []byte) error {
	for offset := 0; offset < len(data); {
		res, err := f.WriteAt(ctx, data[offset:], uint64(offset), wire.FILE_SYNC4)
		if err != nil {
			return err
		}
		if res.Count == 0 || res.Committed != wire.FILE_SYNC4 {
			return fmt.Errorf("%w: %d bytes written, stability %d", ErrProtocol, res.Count, res.Committed)
		}
		offset += int(res.Count)
	}
	return nil
}

// ReadFile returns the contents of dir/name.
func (c *Client) ReadFile(ctx context.Context, dir Handle, name string) ([]byte, error) {
	f, a, err := c.Open(ctx, dir, name, OpenOptions{Read: true})
	if err != nil {
		return nil, err
	}
	data, err := f.readAll(ctx, a.Size)
	return data, errors.Join(err, f.Close(ctx))
}

// readAll reads to the end of the file, which has about size bytes.
func (f *File) readAll(ctx context.Context, size uint64) ([]byte, error) {
	data := make([]byte, 0, min(size+1, uint64(f.c.maxRead)))
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, eof, err := f.ReadAt(ctx, data[len(data):cap(data)], uint64(len(data)))
		data = data[:len(data)+n]
		switch {
		case err != nil || eof:
			return data, err
		case n == 0:
			return data, io.ErrNoProgress
		}
	}
}
