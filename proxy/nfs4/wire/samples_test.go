package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// codec is an operation's arguments or its result.
type codec interface {
	Encode(*xdr.Encoder)
	Decode(*xdr.Decoder)
}

// samples are values of one type.
type samples struct {
	make func() codec // nil: there is nothing on the wire
	list []codec
}

var none samples

// of returns samples of one type.
func of[T any, P interface {
	*T
	codec
}](values ...T) samples {
	list := make([]codec, len(values))
	for i := range values {
		list[i] = P(&values[i])
	}
	return samples{func() codec { return P(new(T)) }, list}
}

// opSamples has an operation's arguments and results in all their shapes.
type opSamples struct {
	op        Op
	args, res samples
}

// sampler gathers opSamples.
type sampler []opSamples

func (s *sampler) add(op Op, args, res samples) { *s = append(*s, opSamples{op, args, res}) }

var (
	sampleStateid  = Stateid{Seqid: 3, Other: [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}
	sampleSession  = SessionID{15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}
	sampleVerifier = Verifier{8, 7, 6, 5, 4, 3, 2, 1}
	sampleOwner    = Owner{ClientID: 0x1122334455667788, Owner: []byte("owner")}
	sampleDir      = ChangeInfo{Atomic: true, Before: 41, After: 42}
	sampleChannel  = ChannelAttrs{
		HeaderPadSize: 1, MaxRequestSize: 2, MaxResponseSize: 3, MaxResponseSizeCached: 4, MaxOperations: 5, MaxRequests: 6,
	}
	sampleAttrs = Attrs{
		Mask:          BitmapOf(FATTR4_SIZE, FATTR4_MODE, FATTR4_OWNER, FATTR4_TIME_MODIFY_SET),
		Size:          77,
		Mode:          0o640,
		Owner:         Principal{ID: 1000},
		TimeModifySet: SetTime{Client: true, Time: Time{Sec: -5, Nsec: 6}},
	}
	noAttrs Attrs
)

// allSamples covers every operation that has arguments or results in this package.
func allSamples() []opSamples {
	var s sampler
	s.sessionSamples()
	s.fileSamples()
	s.dirSamples()
	s.openSamples()
	s.lockSamples()
	s.samples40()
	s.samples42()
	s.xattrSamples()
	return s
}

func (s *sampler) sessionSamples() {
	impl := ImplID{Domain: []byte("example.org"), Name: []byte("a client"), Date: Time{Sec: 1, Nsec: 2}}
	protect := ProtectOps{MustEnforce: Bitmap{1, 2, 0}, MustAllow: Bitmap{0, 0, 3}}
	rdma := sampleChannel
	rdma.HasRDMA, rdma.RDMAIrd = true, 9
	sys := CallbackSec{Flavor: 1, Stamp: 2, Machine: []byte("host"), UID: 3, GID: 4, GIDs: []uint32{5, 6}}

	s.add(OP_EXCHANGE_ID, of(
		ExchangeIDArgs{Verifier: sampleVerifier, OwnerID: []byte("co_ownerid"), Flags: EXCHGID4_FLAG_MASK_A},
		ExchangeIDArgs{OwnerID: []byte("x"), Protect: SP4_MACH_CRED, Ops: protect, HasImpl: true, Impl: impl},
		ExchangeIDArgs{OwnerID: []byte("x"), Protect: SP4_SSV, Ops: protect,
			SSV: SSVParms{HashAlgs: [][]byte{{1, 2, 3}, {4}}, EncrAlgs: [][]byte{{5}}, Window: 6, NumHandles: 7}},
	), of(
		ExchangeIDRes{ClientID: 1, SequenceID: 2, Flags: 3, ServerMinor: 4, ServerMajor: []byte("m"), ServerScope: []byte("s")},
		ExchangeIDRes{Protect: SP4_MACH_CRED, Ops: protect, ServerMajor: []byte{}, ServerScope: []byte{}, HasImpl: true, Impl: impl},
		ExchangeIDRes{Protect: SP4_SSV, Ops: protect, ServerMajor: []byte{}, ServerScope: []byte{},
			SSV: SSVInfo{HashAlg: 1, EncrAlg: 2, SSVLen: 32, Window: 3, Handles: [][]byte{{1}, {2, 3, 4, 5, 6}}}},
	))
	s.add(OP_CREATE_SESSION, of(
		CreateSessionArgs{ClientID: 1, SequenceID: 2, Flags: 3, Fore: sampleChannel, Back: rdma, CBProgram: 4, Sec: []CallbackSec{{}, sys}},
		CreateSessionArgs{Sec: []CallbackSec{}},
	),
		of(CreateSessionRes{SessionID: sampleSession, SequenceID: 2, Flags: 1, Fore: rdma, Back: sampleChannel}))
	s.add(OP_BACKCHANNEL_CTL, of(BackchannelCtlArgs{CBProgram: 7, Sec: []CallbackSec{sys}}), none)
	s.add(OP_BIND_CONN_TO_SESSION,
		of(BindConnToSessionArgs{SessionID: sampleSession, Dir: CDFC4_BACK_OR_BOTH, UseRDMA: true}),
		of(BindConnToSessionRes{SessionID: sampleSession, Dir: CDFS4_BOTH}))
	s.add(OP_DESTROY_SESSION, of(DestroySessionArgs{SessionID: sampleSession}), none)
	s.add(OP_DESTROY_CLIENTID, of(DestroyClientIDArgs{ClientID: 1 << 63}), none)
	s.add(OP_SET_SSV, of(SetSSVArgs{SSV: []byte("secret"), Digest: []byte("digest")}), of(SetSSVRes{Digest: []byte("digest")}))
	s.add(OP_RECLAIM_COMPLETE, of(ReclaimCompleteArgs{}, ReclaimCompleteArgs{OneFS: true}), none)
	s.add(OP_SEQUENCE,
		of(SequenceArgs{SessionID: sampleSession, SequenceID: 1, SlotID: 2, HighestSlot: 3, CacheThis: true}),
		of(SequenceRes{SessionID: sampleSession, SequenceID: 1, SlotID: 2, HighestSlot: 3, TargetHighestSlot: 4, StatusFlags: 5}))
}

func (s *sampler) fileSamples() {
	s.add(OP_PUTFH, of(PutFHArgs{Handle: []byte("handle")}, PutFHArgs{Handle: make([]byte, MaxHandleBytes)}), none)
	s.add(OP_GETFH, none, of(GetFHRes{Handle: []byte("a handle")}))
	for _, op := range []Op{OP_PUTROOTFH, OP_PUTPUBFH, OP_SAVEFH, OP_RESTOREFH, OP_LOOKUPP} {
		s.add(op, none, none)
	}
	s.add(OP_GETATTR,
		of(GetAttrArgs{Request: KnownAttrs}, GetAttrArgs{}),
		of(GetAttrRes{Attrs: sampleAttrs}, GetAttrRes{Attrs: noAttrs}))
	s.add(OP_SETATTR,
		of(SetAttrArgs{Stateid: sampleStateid, Attrs: sampleAttrs}),
		of(SetAttrRes{Set: BitmapOf(FATTR4_MODE)}))
	s.add(OP_VERIFY, of(VerifyArgs{Attrs: sampleAttrs}), none)
	s.add(OP_NVERIFY, of(VerifyArgs{Attrs: sampleAttrs}), none)
	s.add(OP_ACCESS, of(AccessArgs{Access: 0x3f}),
		of(AccessRes{Supported: 0x1f, Access: 0x0d}))
	s.add(OP_READ,
		of(ReadArgs{Stateid: sampleStateid, Offset: 1 << 40, Count: 1 << 20}),
		of(ReadRes{EOF: true, Data: []byte("data")}, ReadRes{Data: []byte{}}))
	s.add(OP_WRITE,
		of(WriteArgs{Stateid: sampleStateid, Offset: 9, Stable: FILE_SYNC4, Data: []byte("some data")}),
		of(WriteRes{Count: 9, Committed: DATA_SYNC4, Verifier: sampleVerifier}))
	s.add(OP_COMMIT, of(CommitArgs{Offset: 1, Count: 2}),
		of(CommitRes{Verifier: sampleVerifier}))
}

func (s *sampler) dirSamples() {
	s.add(OP_LOOKUP, of(LookupArgs{Name: []byte("näme")}), none)
	s.add(OP_CREATE, of(
		CreateArgs{Type: NF4DIR, Name: []byte("dir"), Attrs: sampleAttrs},
		CreateArgs{Type: NF4LNK, Target: []byte("../target"), Name: []byte("link"), Attrs: noAttrs},
		CreateArgs{Type: NF4BLK, Device: Specdata{8, 1}, Name: []byte("sda1"), Attrs: noAttrs},
		CreateArgs{Type: NF4FIFO, Name: []byte("fifo"), Attrs: noAttrs},
	),
		of(CreateRes{Dir: sampleDir, Set: BitmapOf(FATTR4_MODE)}))
	s.add(OP_LINK, of(LinkArgs{Name: []byte("link")}),
		of(LinkRes{Dir: sampleDir}))
	s.add(OP_REMOVE, of(RemoveArgs{Name: []byte("gone")}),
		of(RemoveRes{Dir: sampleDir}))
	s.add(OP_RENAME,
		of(RenameArgs{OldName: []byte("a"), NewName: []byte("b")}),
		of(RenameRes{Source: sampleDir, Target: ChangeInfo{Before: 1, After: 2}}))
	s.add(OP_READLINK, none, of(ReadlinkRes{Target: []byte("/somewhere")}))
	s.add(OP_READDIR,
		of(ReaddirArgs{Cookie: 7, Verifier: sampleVerifier, DirCount: 100, MaxCount: 1000, Request: KnownAttrs}), of(listing{}, listing{eof: true}, listing{eof: true, entries: []DirEntry{
			{Cookie: 3, Name: []byte("one"), Attrs: sampleAttrs}, {Cookie: 1 << 60, Name: []byte("another"), Attrs: noAttrs},
		}}))
}

// listing is a READDIR4resok as a value.
type listing struct {
	entries []DirEntry
	eof     bool
}

func (l *listing) Encode(e *xdr.Encoder) {
	var w ReaddirWriter
	w.Begin(e, sampleVerifier, 0, 1<<20)
	for i := range l.entries {
		w.Add(l.entries[i].Cookie, string(l.entries[i].Name), &l.entries[i].Attrs)
	}
	if len(l.entries) == 0 && !l.eof { // what no server of ours says, but another may
		e.Uint64(0)
		return
	}
	if w.End(l.eof) != NFS4_OK || w.Entries() != len(l.entries) {
		e.Fail(xdr.ErrLimit)
	}
}

func (l *listing) Decode(d *xdr.Decoder) {
	*l = listing{}
	var r ReaddirReader
	r.Begin(d)
	for entry := (DirEntry{}); r.Next(&entry); entry = (DirEntry{}) {
		l.entries = append(l.entries, entry)
	}
	l.eof = r.EOF
}

func (s *sampler) openSamples() {
	ace := ACE{Type: 1, Flag: 2, Mask: 3, Who: []byte("OWNER@")}
	open := OpenArgs{Seqid: 1, ShareAccess: 3, ShareDeny: 1, Owner: sampleOwner, Name: []byte("file")}
	with := func(change func(*OpenArgs)) OpenArgs {
		a := open
		change(&a)
		return a
	}
	s.add(OP_OPEN, of(
		open,
		with(func(a *OpenArgs) { a.Create, a.CreateMode, a.Attrs = true, UNCHECKED4, sampleAttrs }),
		with(func(a *OpenArgs) { a.Create, a.CreateMode, a.Attrs = true, GUARDED4, noAttrs }),
		with(func(a *OpenArgs) { a.Create, a.CreateMode, a.Verifier = true, EXCLUSIVE4, sampleVerifier }),
		with(func(a *OpenArgs) {
			a.Create, a.CreateMode, a.Verifier, a.Attrs = true, EXCLUSIVE4_1, sampleVerifier, sampleAttrs
		}),
		with(func(a *OpenArgs) { a.Claim, a.Name, a.DelegateType = CLAIM_PREVIOUS, nil, OPEN_DELEGATE_WRITE }),
		with(func(a *OpenArgs) { a.Claim, a.DelegateState = CLAIM_DELEGATE_CUR, sampleStateid }),
		with(func(a *OpenArgs) { a.Claim = CLAIM_DELEGATE_PREV }),
		with(func(a *OpenArgs) { a.Claim, a.Name = CLAIM_FH, nil }),
		with(func(a *OpenArgs) { a.Claim, a.Name, a.DelegateState = CLAIM_DELEG_CUR_FH, nil, sampleStateid }),
		with(func(a *OpenArgs) { a.Claim, a.Name = CLAIM_DELEG_PREV_FH, nil }),
	), of(
		OpenRes{Stateid: sampleStateid, Dir: sampleDir, Flags: 4, Set: BitmapOf(FATTR4_SIZE)},
		OpenRes{Delegation: Delegation{Type: OPEN_DELEGATE_READ, Stateid: sampleStateid, Recall: true, Perms: ace}},
		OpenRes{Delegation: Delegation{Type: OPEN_DELEGATE_WRITE, Stateid: sampleStateid, LimitBy: NFS_LIMIT_SIZE, LimitBytes: 9, Perms: ace}},
		OpenRes{Delegation: Delegation{Type: OPEN_DELEGATE_WRITE, LimitBy: NFS_LIMIT_BLOCKS, LimitBlocks: 1, BytesPerBlock: 2, Perms: ace}},
		OpenRes{Delegation: Delegation{Type: OPEN_DELEGATE_NONE_EXT, Why: WND4_CONTENTION, WillTell: true}},
		OpenRes{Delegation: Delegation{Type: OPEN_DELEGATE_NONE_EXT, Why: WND4_NOT_WANTED}},
	))
	s.add(OP_OPEN_DOWNGRADE,
		of(OpenDowngradeArgs{Stateid: sampleStateid, Seqid: 1, ShareAccess: 2, ShareDeny: 3}),
		of(OpenDowngradeRes{Stateid: sampleStateid}))
	s.add(OP_CLOSE, of(CloseArgs{Seqid: 1, Stateid: sampleStateid}),
		of(CloseRes{Stateid: sampleStateid}))
	s.add(OP_DELEGPURGE, of(DelegPurgeArgs{ClientID: 5}), none)
	s.add(OP_DELEGRETURN, of(DelegReturnArgs{Stateid: sampleStateid}), none)
}

func (s *sampler) lockSamples() {
	s.add(OP_LOCK, of(
		LockArgs{Type: WRITE_LT, Reclaim: true, Offset: 1, Length: 2, NewOwner: true, OpenSeqid: 3,
			OpenStateid: sampleStateid, LockSeqid: 4, Owner: sampleOwner},
		LockArgs{Type: READW_LT, Offset: 1, Length: 1<<64 - 1, LockStateid: sampleStateid, LockSeqid: 4},
	), of(LockRes{Stateid: sampleStateid}))
	s.add(OP_LOCKT, of(LockTArgs{Type: READ_LT, Offset: 1, Length: 2, Owner: sampleOwner}), none)
	s.add(OP_LOCKU,
		of(LockUArgs{Type: WRITEW_LT, Seqid: 1, Stateid: sampleStateid, Offset: 2, Length: 3}),
		of(LockURes{Stateid: sampleStateid}))
	s.add(OP_FREE_STATEID, of(FreeStateidArgs{Stateid: sampleStateid}), none)
	var two TestStateidArgs
	two.Add(sampleStateid)
	two.Add(BypassStateid)
	s.add(OP_TEST_STATEID, of(TestStateidArgs{Raw: []byte{}}, two), of(
		TestStateidRes{Statuses: []Status{NFS4_OK, NFS4ERR_EXPIRED}}))
	s.add(OP_SECINFO, of(SecinfoArgs{Name: []byte("name")}),
		of(SecinfoRes{Flavors: []uint32{1, 0}}))
	s.add(OP_SECINFO_NO_NAME,
		of(SecinfoNoNameArgs{Style: SECINFO_STYLE4_PARENT}),
		of(SecinfoRes{Flavors: []uint32{1}}))
}
