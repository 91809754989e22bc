package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// The basic types of RFC 8881 §3.2 and §3.3.

// ClientID names a client record of one server start (clientid4).
type ClientID uint64

// SessionID names a session (sessionid4).
type SessionID [16]byte

// Verifier is the protocol's eight opaque bytes (verifier4).
type Verifier [8]byte

// Stateid names an open, a lock or a delegation (stateid4, RFC 8881 §8.2).
type Stateid struct {
	Seqid uint32
	Other [12]byte
}

// Decode reads a client id.
func (c *ClientID) Decode(d *xdr.Decoder) { *c = ClientID(d.Uint64()) }

// Encode writes a client id.
func (c ClientID) Encode(e *xdr.Encoder) { e.Uint64(uint64(c)) }

// Decode reads a session id.
func (s *SessionID) Decode(d *xdr.Decoder) { copy(s[:], d.Fixed(len(s))) }

// Encode writes a session id.
func (s *SessionID) Encode(e *xdr.Encoder) { e.Fixed(s[:]) }

// Decode reads a verifier.
func (v *Verifier) Decode(d *xdr.Decoder) { copy(v[:], d.Fixed(len(v))) }

// Encode writes a verifier.
func (v *Verifier) Encode(e *xdr.Encoder) { e.Fixed(v[:]) }

// Decode reads a stateid.
func (s *Stateid) Decode(d *xdr.Decoder) {
	s.Seqid = d.Uint32()
	copy(s.Other[:], d.Fixed(len(s.Other)))
}

// Encode writes a stateid.
func (s *Stateid) Encode(e *xdr.Encoder) {
	e.Uint32(s.Seqid)
	e.Fixed(s.Other[:])
}

// The special stateids of RFC 8881 §8.2.3.
var (
	// AnonymousStateid is all zeros: I/O without an open.
	AnonymousStateid = Stateid{}
	// BypassStateid is all ones: READ that passes by deny modes.
	BypassStateid = Stateid{Seqid: 0xffffffff, Other: [12]byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	// CurrentStateid stands for the stateid that an earlier operation of the same COMPOUND returned.
	CurrentStateid = Stateid{Seqid: 1}
	// InvalidStateid is never valid (seqid NFS4_UINT32_MAX, other zero).
	InvalidStateid = Stateid{Seqid: 0xffffffff}
)

// Time is nfstime4. A Nsec of a second or more is the server's to refuse (NFS4ERR_INVAL).
type Time struct {
	Sec  int64
	Nsec uint32
}

// Decode reads a time.
func (t *Time) Decode(d *xdr.Decoder) { t.Sec, t.Nsec = d.Int64(), d.Uint32() }

// Encode writes a time.
func (t Time) Encode(e *xdr.Encoder) {
	e.Int64(t.Sec)
	e.Uint32(t.Nsec)
}

// FSID is fsid4: which file system a file is in.
type FSID struct{ Major, Minor uint64 }

// Decode reads an fsid.
func (f *FSID) Decode(d *xdr.Decoder) { f.Major, f.Minor = d.Uint64(), d.Uint64() }

// Encode writes an fsid.
func (f FSID) Encode(e *xdr.Encoder) {
	e.Uint64(f.Major)
	e.Uint64(f.Minor)
}

// Specdata is specdata4: the numbers of a device node.
type Specdata struct{ Major, Minor uint32 }

// Decode reads device numbers.
func (s *Specdata) Decode(d *xdr.Decoder) { s.Major, s.Minor = d.Uint32(), d.Uint32() }

// Encode writes device numbers.
func (s Specdata) Encode(e *xdr.Encoder) {
	e.Uint32(s.Major)
	e.Uint32(s.Minor)
}

// ChangeInfo is change_info4: a directory's change attribute around an operation.
type ChangeInfo struct {
	Atomic        bool
	Before, After uint64
}

// Decode reads a change_info4.
func (c *ChangeInfo) Decode(d *xdr.Decoder) {
	c.Atomic, c.Before, c.After = d.Bool(), d.Uint64(), d.Uint64()
}

// Encode writes a change_info4.
func (c *ChangeInfo) Encode(e *xdr.Encoder) {
	e.Bool(c.Atomic)
	e.Uint64(c.Before)
	e.Uint64(c.After)
}

// Owner is open_owner4 and lock_owner4 (state_owner4). The bytes are at most MaxOpaqueBytes.
type Owner struct {
	ClientID ClientID
	Owner    []byte
}

// Decode reads an owner.
func (o *Owner) Decode(d *xdr.Decoder) {
	o.ClientID.Decode(d)
	o.Owner = d.Opaque(MaxOpaqueBytes)
}

// Encode writes an owner.
func (o *Owner) Encode(e *xdr.Encoder) {
	o.ClientID.Encode(e)
	e.Opaque(o.Owner)
}

// FileType is nfs_ftype4.
type FileType uint32

// The file types.
const (
	NF4REG       FileType = 1
	NF4DIR       FileType = 2
	NF4BLK       FileType = 3
	NF4CHR       FileType = 4
	NF4LNK       FileType = 5
	NF4SOCK      FileType = 6
	NF4FIFO      FileType = 7
	NF4ATTRDIR   FileType = 8
	NF4NAMEDATTR FileType = 9
)

// StableHow is stable_how4.
type StableHow uint32

// How stable a WRITE is.
const (
	UNSTABLE4  StableHow = 0
	DATA_SYNC4 StableHow = 1
	FILE_SYNC4 StableHow = 2
)

// CheckComponent says whether name can be the name of a directory entry: NFS4_OK, NFS4ERR_INVAL for an
// empty one, NFS4ERR_NAMETOOLONG above maxBytes, NFS4ERR_BADNAME for "." and "..", NFS4ERR_BADCHAR with
// a slash or a zero byte in it. Names are bytes otherwise, as Linux clients and servers have them
// (RFC 8881 §14.4 leaves this open).
func CheckComponent(name []byte, maxBytes int) Status {
	switch {
	case len(name) == 0:
		return NFS4ERR_INVAL
	case len(name) > maxBytes:
		return NFS4ERR_NAMETOOLONG
	case string(name) == "." || string(name) == "..":
		return NFS4ERR_BADNAME
	}
	for _, c := range name {
		if c == 0 || c == '/' {
			return NFS4ERR_BADCHAR
		}
	}
	return NFS4_OK
}
