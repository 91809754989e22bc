package nfs4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// An operation in a session that must not be carried out twice leaves a mark: a note that becomes durable
// with its effect. There is one for each slot, that of the last such request. Numbers are big-endian:
//
//	key   session id (16) | slot (4)
//	note  version (1) | sequence id (4) | print of the request (8) | index in the COMPOUND (4) |
//	      for each operation before it in the COMPOUND that left one too: index (4) | vfs.Done (44)
//
// The file system keeps the vfs.Done of the operation itself beside the note.
const (
	markKeyBytes     = 16 + 4
	markVersion      = 1
	markHeaderBytes  = 1 + 4 + 8 + 4
	markEarlierBytes = 4 + 44
	// maxMarks is how many operations of one COMPOUND may leave marks, so that a note has room for all.
	maxMarks = (vfs.MaxMarkNoteBytes-markHeaderBytes)/markEarlierBytes + 1
)

// errMark says that a mark cannot be read.
var errMark = errors.New("nfs4: damaged mark of a request")

// markKey is where the mark of a request is kept.
type markKey [markKeyBytes]byte

func markKeyOf(session wire.SessionID, slot uint32) (k markKey) {
	copy(k[:], session[:])
	binary.BigEndian.PutUint32(k[len(session):], slot)
	return k
}

// carriedOut is an operation that was carried out: its place in its COMPOUND, and what came of it.
type carriedOut struct {
	index uint32
	done  vfs.Done
}

// formerRequest is the last request on a slot of a session of a former start that left marks.
type formerRequest struct {
	key        markKey
	sequence   uint32
	print      uint64
	operations []carriedOut // in order
}

// parseMark reads a mark. A note of a version that is not known belongs to a program that is, so that it
// can't be answered for here: ok is false then.
func parseMark(key, note []byte, done vfs.Done) (r formerRequest, ok bool, err error) {
	if len(note) > 0 && note[0] != markVersion {
		return r, false, nil
	}
	if len(key) != markKeyBytes || len(note) < markHeaderBytes || (len(note)-markHeaderBytes)%markEarlierBytes != 0 {
		return r, false, errMark
	}
	r.key = markKey(key)
	r.sequence = binary.BigEndian.Uint32(note[1:])
	r.print = binary.BigEndian.Uint64(note[5:])
	last := carriedOut{index: binary.BigEndian.Uint32(note[13:]), done: done}
	for rest := note[markHeaderBytes:]; len(rest) > 0; {
		o := carriedOut{index: binary.BigEndian.Uint32(rest)}
		rest, _ = o.done.Parse(rest[4:])
		r.operations = append(r.operations, o)
	}
	r.operations = append(r.operations, last)
	for i := range r.operations[1:] {
		if r.operations[i].index >= r.operations[i+1].index {
			return r, false, errMark
		}
	}
	return r, true, nil
}

// readMarks reads what requests of former starts have left, in the order of the keys, so of the starts. Of
// more than maxFormerRequests the oldest are dropped. A damaged one is an error: to go on without it would
// let a request be carried out twice.
func readMarks(ctx context.Context, fs vfs.FileSystem) ([]formerRequest, error) {
	var former []formerRequest
	err := fs.EachMark(ctx, func(key, note []byte, done vfs.Done) error {
		r, ok, err := parseMark(key, note, done)
		if !ok {
			return err
		}
		if len(former) == 2*maxFormerRequests {
			former = append(former[:0], former[maxFormerRequests:]...)
		}
		former = append(former, r)
		return nil
	})
	if n := len(former); err == nil && n > maxFormerRequests {
		former = former[n-maxFormerRequests:]
		err = fs.DropMarks(ctx, nil, former[0].key[:])
	}
	if err != nil {
		return nil, fmt.Errorf("nfs4: marks of requests: %w", err)
	}
	return former, nil
}

// formerRequestAt is the last request on a slot of a session of a former start, or nil.
func (s *Service) formerRequestAt(key markKey) *formerRequest {
	former := s.former.Load()
	if former == nil {
		return nil
	}
	i, found := sort.Find(len(*former), func(i int) int {
		return bytes.Compare(key[:], (*former)[i].key[:])
	})
	if !found {
		return nil
	}
	return &(*former)[i]
}

// forgetFormer drops the marks of former starts once nobody will ask for them any more. Those of this
// start begin with its epoch, which all session ids do.
func (s *Service) forgetFormer(ctx context.Context) {
	if s.former.Load() == nil || s.opt.Now().Before(s.formerUntil) {
		return
	}
	epoch := binary.BigEndian.AppendUint32(nil, uint32(s.opt.Epoch))
	err := s.fs.DropMarks(ctx, nil, epoch)
	if next := uint32(s.opt.Epoch) + 1; err == nil && next != 0 {
		err = s.fs.DropMarks(ctx, binary.BigEndian.AppendUint32(nil, next), nil)
	}
	if err != nil {
		s.storageError("DropMarks", err)
		return // the next tick tries again
	}
	s.former.Store(nil)
}

// forgetMarks drops the marks whose keys begin with prefix: those of a session that has ended, or of a slot
// whose sequence begins anew.
func (s *Service) forgetMarks(ctx context.Context, prefix []byte) {
	if err := s.fs.DropMarks(ctx, prefix, behind(prefix)); err != nil {
		s.storageError("DropMarks", err) // those of a session go after the next start
	}
}

// behind is the first key behind all that begin with prefix; nil: there is none.
func behind(prefix []byte) []byte {
	for n := len(prefix); n > 0; n-- {
		if last := prefix[n-1]; last != 0xff {
			return append(append(make([]byte, 0, n), prefix[:n-1]...), last+1)
		}
	}
	return nil
}

// marked returns the context for an operation of the file system that must not be carried out twice: in a
// session it leaves a mark.
func (c *compound) marked() context.Context {
	if !c.inSession {
		return c.ctx
	}
	c.markKey = markKeyOf(c.a.sequence.SessionID, c.a.sequence.SlotID)
	note := append(c.marking.Mark.Note[:0], markVersion)
	note = binary.BigEndian.AppendUint32(note, c.a.sequence.SequenceID)
	note = binary.BigEndian.AppendUint64(note, c.print())
	note = binary.BigEndian.AppendUint32(note, uint32(c.index))
	for i := range c.carriedOut {
		note = binary.BigEndian.AppendUint32(note, c.carriedOut[i].index)
		note = c.carriedOut[i].done.Append(note)
	}
	c.marking.Context = c.ctx
	c.marking.Mark = vfs.Mark{Key: c.markKey[:], Note: note}
	return &c.marking
}

// noteMark takes down that the operation that has just succeeded left a mark, if it did.
func (c *compound) noteMark() {
	if m := &c.marking.Mark; m.Left {
		m.Left = false
		c.carriedOut = append(c.carriedOut, carriedOut{index: uint32(c.index), done: m.Done})
	}
}

// print is fingerprint, but the same after a restart.
func (c *compound) print() uint64 {
	rest := c.operations
	length := rest.Remaining()
	b := make([]byte, 0, 20+fingerprintBytes+MaxIdentityBytes)
	for _, v := range [...]uint32{c.principal.Flavor, c.principal.UID, uint32(length), uint32(c.head.Ops)} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	b = append(b, rest.Fixed(min(length, fingerprintBytes)&^3)...)
	b = append(b, c.b.conn.Identity...)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}
