package wire

import "github.com/nfseal/nfseal/proxy/xdr"

func (s *sampler) samples40() {
	addr := ClientAddr{NetID: []byte("tcp"), Addr: []byte("127.0.0.1.8.1")}
	s.add(OP_SETCLIENTID,
		of(SetClientIDArgs{Verifier: sampleVerifier, ID: []byte("an id"), CBProgram: 1, CBAddr: addr, CBIdent: 2}),
		of(SetClientIDRes{ClientID: 7, Confirm: sampleVerifier}))
	s.add(OP_SETCLIENTID_CONFIRM, of(SetClientIDConfirmArgs{ClientID: 7, Confirm: sampleVerifier}), none)
	s.add(OP_RENEW, of(RenewArgs{ClientID: 7}), none)
	s.add(OP_OPEN_CONFIRM, of(OpenConfirmArgs{Stateid: sampleStateid, Seqid: 5}), of(OpenConfirmRes{Stateid: sampleStateid}))
	s.add(OP_RELEASE_LOCKOWNER, of(ReleaseLockOwnerArgs{Owner: sampleOwner}), none)
}

// segments is a read_plus_res4 as a value.
type segments struct {
	eof  bool
	list []ReadPlusSegment
}

func (l *segments) Encode(e *xdr.Encoder) {
	var w ReadPlusWriter
	w.Begin(e)
	for _, s := range l.list {
		if s.Content == NFS4_CONTENT_HOLE {
			w.Hole(s.Offset, s.Length)
			continue
		}
		copy(w.Data(s.Offset, len(s.Data)), s.Data)
		w.EndData(len(s.Data))
	}
	w.End(l.eof)
}

func (l *segments) Decode(d *xdr.Decoder) {
	*l = segments{}
	var r ReadPlusReader
	r.Begin(d)
	for s := (ReadPlusSegment{}); r.Next(&s); {
		l.list = append(l.list, s)
	}
	l.eof = r.EOF
}

func (s *sampler) samples42() {
	clone := CloneArgs{Source: sampleStateid, Target: BypassStateid, SourceOffset: 1, TargetOffset: 2, Count: 3}
	s.add(OP_ALLOCATE, of(AllocateArgs{Stateid: sampleStateid, Offset: 1, Length: 2}), none)
	s.add(OP_DEALLOCATE, of(DeallocateArgs{Stateid: sampleStateid, Offset: 3, Length: 4}), none)
	s.add(OP_SEEK, of(SeekArgs{Stateid: sampleStateid, Offset: 1, What: NFS4_CONTENT_HOLE}),
		of(SeekRes{EOF: true, Offset: 9}))
	s.add(OP_READ_PLUS, of(ReadPlusArgs{Stateid: sampleStateid, Offset: 1, Count: 2}), of(
		segments{eof: true},
		segments{list: []ReadPlusSegment{
			{Content: NFS4_CONTENT_DATA, Offset: 0, Data: []byte("hello")},
			{Content: NFS4_CONTENT_HOLE, Offset: 5, Length: 4091},
			{Content: NFS4_CONTENT_DATA, Offset: 4096, Data: []byte{}},
		}},
	))
	s.add(OP_IO_ADVISE, of(IOAdviseArgs{Stateid: sampleStateid, Offset: 1, Count: 2, Hints: Bitmap{1 << IO_ADVISE4_RANDOM}}),
		of(IOAdviseRes{Hints: Bitmap{1 << IO_ADVISE4_WILLNEED}}, IOAdviseRes{}))
	s.add(OP_CLONE, of(clone), none)
	s.add(OP_COPY, of(CopyArgs{CloneArgs: clone, Consecutive: true, Synchronous: true}, CopyArgs{}), of(
		CopyRes{Response: WriteResponse{Count: 5, Committed: FILE_SYNC4, Verifier: sampleVerifier},
			Requirements: CopyRequirements{Consecutive: true, Synchronous: true}},
		CopyRes{Response: WriteResponse{Async: true, Callback: sampleStateid}},
	))
	s.add(OP_OFFLOAD_CANCEL, of(OffloadArgs{Stateid: sampleStateid}), none)
	s.add(OP_OFFLOAD_STATUS, of(OffloadArgs{Stateid: sampleStateid}),
		of(OffloadStatusRes{Count: 1}, OffloadStatusRes{Count: 2, Complete: true, Status: NFS4ERR_NOSPC}))
}

// names is a LISTXATTRS4resok that is written name by name.
type names struct{ ListXattrsRes }

func (l *names) Encode(e *xdr.Encoder) {
	var w ListXattrsWriter
	if !w.Begin(e, 1<<20) {
		e.Fail(xdr.ErrLimit)
	}
	for _, name := range l.Names {
		if !w.Add(string(name)) {
			e.Fail(xdr.ErrLimit)
		}
	}
	w.End(l.Cookie, l.EOF)
}

func (s *sampler) xattrSamples() {
	s.add(OP_GETXATTR, of(GetXattrArgs{Name: []byte("key")}), of(GetXattrRes{Value: []byte("value")}, GetXattrRes{Value: []byte{}}))
	s.add(OP_SETXATTR, of(SetXattrArgs{Option: SETXATTR4_REPLACE, Name: []byte("key"), Value: []byte("value")}),
		of(ChangeInfoRes{Change: sampleDir}))
	s.add(OP_LISTXATTRS, of(ListXattrsArgs{Cookie: 1 << 40, MaxCount: 1000}), of(
		names{ListXattrsRes{Cookie: 7, EOF: true}},
		names{ListXattrsRes{Cookie: 1 << 33, Names: [][]byte{[]byte("a"), []byte("longer name")}}},
	))
	s.add(OP_REMOVEXATTR, of(RemoveXattrArgs{Name: []byte("key")}), of(ChangeInfoRes{Change: sampleDir}))
}
