package nfs4_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

func TestOptions(t *testing.T) {
	good := newRig(t, nil).o
	for i, change := range []func(*nfs4.Options){
		func(o *nfs4.Options) { o.FS = nil },
		func(o *nfs4.Options) { o.HandleKey = o.HandleKey[1:] },
		func(o *nfs4.Options) { o.ServerOwner = nil },
		func(o *nfs4.Options) { o.ServerScope = make([]byte, 1025) },
		func(o *nfs4.Options) { o.Epoch = 0 },
		func(o *nfs4.Options) { o.LeaseSeconds = -1 },
		func(o *nfs4.Options) { o.LeaseSeconds, o.GraceSeconds = 30, 20 },
		func(o *nfs4.Options) { o.Squash.Mode = 9 },
		func(o *nfs4.Options) { o.Limits.Clients = -4 },
	} {
		o := good
		change(&o)
		if s, err := nfs4.New(o); err == nil {
			s.Close()
			t.Errorf("case %d passed", i)
		}
	}
}

func TestHandleKeyIsNotShown(t *testing.T) {
	key := nfs4.HandleKey(strings.Repeat("K", 32))
	o := nfs4.Options{HandleKey: key}
	text, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(key), fmt.Sprintf("%s %v %+v %#v %x %q %d", key, key, key, key, key, key, key),
		fmt.Sprintf("%+v %#v", o, o), string(text), key.String(), key.GoString()} {
		if strings.Contains(s, "KK") || strings.Contains(s, "4b4b") || strings.Contains(s, "75 75") {
			t.Errorf("the key is in %q", s)
		}
	}
}

func TestForgedHandles(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	h, _ := s.makeFile("f", 0o644)
	if len(h) > wire.MaxHandleBytes {
		t.Fatalf("a handle of %d bytes", len(h))
	}
	for i := range h {
		for _, bit := range []byte{1, 0x80} {
			forged := bytes.Clone(h)
			forged[i] ^= bit
			want := wire.NFS4ERR_BADHANDLE
			if i >= 4 && i < 20 { // the file system's identity
				want = wire.NFS4ERR_STALE
			}
			s.fails(want, putFH(forged))
		}
	}
	for _, forged := range [][]byte{nil, h[:47], append(bytes.Clone(h), 0), make([]byte, 128)} {
		s.fails(wire.NFS4ERR_BADHANDLE, putFH(forged))
	}
	s.fails(wire.NFS4ERR_BADXDR, putFH(make([]byte, 129)))

	// The same file of the same file system under another key, and of another file system.
	other := newRig(t, func(o *nfs4.Options) { o.HandleKey = bytes.Repeat([]byte{8}, 32) })
	other.newSession("c").fails(wire.NFS4ERR_BADHANDLE, putFH(h))
	foreign := newRig(t, func(o *nfs4.Options) { o.FSID.Major++ })
	foreign.newSession("c").fails(wire.NFS4ERR_STALE, putFH(h))
	r.restart()
	r.newSession("c").ok(putFH(h), getAttr(wire.FATTR4_SIZE))
}

func TestGrants(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	h, id := s.makeFile("f", 0o644)
	s.ok(putFH(h), write(id, 0, "x"))

	nothing := s.on(r.s.Bind(nfs4.ConnInfo{Grant: nfs4.Grant{Write: true, Root: true}}))
	nothing.fails(wire.NFS4ERR_ACCESS, putFH(h))
	readOnly := s.on(r.s.Bind(nfs4.ConnInfo{Grant: nfs4.Grant{Mount: true, Root: true}}))
	readOnly.seq = nothing.seq
	readOnly.ok(putRoot, lookup("f"), read(wire.AnonymousStateid, 0, 1))
	readOnly.ok(putRoot, open("f", forRead), commit(0))
	for _, op := range []call{mkdir("d", 0), remove("f"), rename("f", "g"), linkTo("g"), create("g", 0), create("f", 0),
		open("f", forWrite), open("f", forBoth), write(wire.AnonymousStateid, 0, "y"), setAttr(wire.AnonymousStateid, withMode(0))} {
		readOnly.fails(wire.NFS4ERR_ROFS, putRoot, saveFH, op)
	}
	creating := func(name string, mode wire.CreateMode, attrs wire.Attrs) call {
		a := openArgs(name, forRead)
		a.Create, a.CreateMode, a.Attrs = true, mode, attrs
		return call{wire.OP_OPEN, a}
	}
	readOnly.ok(putRoot, creating("f", wire.UNCHECKED4, withMode(0o600))) // open(2) with O_CREAT
	readOnly.fails(wire.NFS4ERR_EXIST, putRoot, creating("f", wire.EXCLUSIVE4_1, withMode(0o600)))
	readOnly.fails(wire.NFS4ERR_ROFS, putRoot, creating("f", wire.UNCHECKED4, withSize(0)))
	readOnly.fails(wire.NFS4ERR_ROFS, putRoot, creating("g", wire.UNCHECKED4, withMode(0o600)))
	got := last[wire.AccessRes](t, readOnly.ok(putRoot, lookup("f"), access(0x3f)))
	if got.Access != wire.ACCESS4_READ {
		t.Errorf("ACCESS: %+v", got)
	}
	if r.fs.creates.Load() != 1 || r.fs.removes.Load() != 0 || r.fs.writes.Load() != 1 {
		t.Errorf("something was changed: %+v", r.fs)
	}
}

func TestSquash(t *testing.T) {
	const anon = 65534
	for _, c := range []struct {
		name     string
		squash   nfs4.Squash
		noRoot   bool
		auth     rpc.Auth
		uid, gid uint32
	}{
		{"as it is", nfs4.Squash{}, false, sysAuth(0, 0), 0, 0},
		{"as it is", nfs4.Squash{}, false, sysAuth(5, 6), 5, 6},
		{"root", nfs4.Squash{Mode: nfs4.SquashRoot}, false, sysAuth(0, 0), anon, anon},
		{"root's group", nfs4.Squash{Mode: nfs4.SquashRoot}, false, sysAuth(5, 0), 5, anon},
		{"not root", nfs4.Squash{Mode: nfs4.SquashRoot}, false, sysAuth(5, 6), 5, 6},
		{"no grant", nfs4.Squash{}, true, sysAuth(0, 7), anon, 7},
		{"all", nfs4.Squash{Mode: nfs4.SquashAll, AnonUID: 77, AnonGID: 88}, false, sysAuth(5, 6), 77, 88},
		{"no credential", nfs4.Squash{}, false, rpc.Auth{}, anon, anon},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(o *nfs4.Options) { o.Squash = c.squash })
			s := r.newSession("c").on(r.s.Bind(nfs4.ConnInfo{Grant: nfs4.Grant{Mount: true, Write: true, Root: !c.noRoot}}))
			s.auth = c.auth
			got := last[wire.GetAttrRes](t, s.ok(putRoot, mkdir("d", 0o755), getAttr(wire.FATTR4_OWNER, wire.FATTR4_OWNER_GROUP))).Attrs
			if got.Owner.ID != c.uid || got.OwnerGroup.ID != c.gid {
				t.Errorf("made by %d:%d, want %d:%d", got.Owner.ID, got.OwnerGroup.ID, c.uid, c.gid)
			}
		})
	}
	// Root's group among the supplementary ones does not help either.
	r := newRig(t, func(o *nfs4.Options) { o.Squash.Mode = nfs4.SquashRoot })
	var made vfs.CreateResult
	req := vfs.CreateRequest{Kind: vfs.Regular, Mode: vfs.Guarded, Attr: vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o060}}
	if err := r.mem.Create(t.Context(), nil, r.mem.Root(), "f", &req, &made); err != nil {
		t.Fatal(err)
	}
	s := r.newSession("c")
	s.auth = sysAuth(5, 6, 0)
	s.fails(wire.NFS4ERR_ACCESS, putRoot, open("f", forRead))
}

// Two mounts of one machine have one name. Under two identities they are two clients of two servers, and
// neither can use what is the other's.
func TestIdentities(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("shared name")
	mine := last[wire.ExchangeIDRes](t, r.raw(exchangeID("shared name")))
	other := r.s.Bind(nfs4.ConnInfo{Grant: everything, Identity: "somebody else"})
	under := func(c call) *answer { return handle(other, sysAuth(0, 0), encodeCompound("", 1, c)) }
	for _, name := range []string{"shared name", strings.Repeat("n", 1024)} {
		theirs := last[wire.ExchangeIDRes](t, under(exchangeID(name)))
		if theirs.ClientID == mine.ClientID || bytes.Equal(theirs.ServerMajor, mine.ServerMajor) || len(theirs.ServerMajor) > 1024 {
			t.Errorf("client %x of server %q, like the first", theirs.ClientID, theirs.ServerMajor)
		}
	}
	wantStatus(t, s.on(other).do(putRoot), wire.NFS4ERR_BADSESSION)
	for want, c := range map[wire.Status]call{
		wire.NFS4ERR_BADSESSION:     {wire.OP_DESTROY_SESSION, &wire.DestroySessionArgs{SessionID: s.id}},
		wire.NFS4ERR_STALE_CLIENTID: {wire.OP_DESTROY_CLIENTID, &wire.DestroyClientIDArgs{ClientID: s.clientID}},
		wire.NFS4ERR_CLID_INUSE: {wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{
			ClientID: s.clientID, SequenceID: mine.SequenceID, Fore: wide, Back: wide}},
	} {
		wantStatus(t, under(c), want)
	}
	wantStatus(t, under(call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ // as if the first had sent it once more
		ClientID: s.clientID, SequenceID: mine.SequenceID - 1, Fore: wide, Back: wide}}), wire.NFS4ERR_CLID_INUSE)
	bind := call{wire.OP_BIND_CONN_TO_SESSION, &wire.BindConnToSessionArgs{SessionID: s.id, Dir: wire.CDFC4_FORE}}
	wantStatus(t, under(bind), wire.NFS4ERR_BADSESSION)
	s.ok(putRoot)
}

// However a client calls itself, it is not taken for one of another identity or of another minor version, and keeps none from mounting.
func TestIdentitiesShareNoNames(t *testing.T) {
	long := strings.Repeat("n", 1024)
	sum := sha256.Sum256([]byte(long))
	type client struct {
		identity, name string
		minor          uint32
	}
	for _, same := range [][]client{
		{{"", "A B X", 1}, {"A", "B X", 1}, {"A B", "X", 1}, {"A B X", "\x00", 1}},
		{{"", "A B X", 0}, {"A", "B X", 0}, {"A B", "X", 0}},
		{{"", "A\x00B\x00X", 1}, {"A", "B\x00X", 1}, {"", "\x00A\x00B\x00X", 1}, {"", "\x00\x00A\x00B\x00X", 1}},
		{{"", "nfs4.0 X", 1}, {"", "X", 0}, {"", "nfs4.0 nfs4.0 X", 1}, {"", "nfs4.0 X", 0}},
		{{"", "nfs4.0 A X", 1}, {"A", "X", 0}, {"A", "nfs4.0 X", 1}},
		{{"A", long, 1}, {"A", string(sum[:]), 1}, {"", "A " + string(sum[:]), 1}, {"", "A\x01" + string(sum[:]), 1}},
		{{"", long, 0}, {"", "sha256 " + hex.EncodeToString(sum[:]), 0}, {"", "\x01" + hex.EncodeToString(sum[:]), 0}},
	} {
		r := newRig(t, nil)
		renew := make([]func() wire.Status, len(same))
		for i, c := range same {
			b := r.s.Bind(nfs4.ConnInfo{Grant: everything, Identity: c.identity})
			do := func(ops ...call) *answer { return handle(b, sysAuth(0, 0), encodeCompound("", c.minor, ops...)) }
			if c.minor == 0 {
				a := do(setClientID(c.name, 1))
				wantStatus(t, a, wire.NFS4_OK)
				got := last[wire.SetClientIDRes](t, a)
				wantStatus(t, do(confirmClientID(got)), wire.NFS4_OK)
				renew[i] = func() wire.Status { return do(call{wire.OP_RENEW, &wire.RenewArgs{ClientID: got.ClientID}}).status }
				continue
			}
			a := do(exchangeID(c.name))
			wantStatus(t, a, wire.NFS4_OK)
			ex := last[wire.ExchangeIDRes](t, a)
			a = do(call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: ex.ClientID, SequenceID: ex.SequenceID, Fore: wide, Back: wide}})
			wantStatus(t, a, wire.NFS4_OK)
			s := &session{r: r, b: b, minor: 1, auth: sysAuth(0, 0), id: last[wire.CreateSessionRes](t, a).SessionID}
			renew[i] = func() wire.Status { return s.do().status }
		}
		for i, c := range same {
			if st := renew[i](); st != wire.NFS4_OK {
				t.Errorf("%.60q under identity %q, minor version %d, is gone: %v", c.name, c.identity, c.minor, st)
			}
		}
	}
}

// Records of clients under an identity from before their names were told apart so are good for them.
func TestIdentitiesOfOlderRecords(t *testing.T) {
	r := newRig(t, nil)
	r.s.Close()
	for _, owner := range []string{"A X", "nfs4.0 A X", "A unidentified"} {
		record := state.Record{Owner: owner, Verifier: wire.Verifier{1}, Principal: state.Principal{Flavor: uint32(rpc.AuthSys), Identity: "A"}}
		if strings.HasSuffix(owner, "unidentified") {
			record.Principal.Identity = ""
		}
		if err := r.fs.PutClientRecord(t.Context(), []byte(owner), record.Value()); err != nil {
			t.Fatal(err)
		}
	}
	r.o.Epoch++
	r.start()
	r.restart() // what was renamed stays so
	names := map[string]bool{}
	r.fs.EachClientRecord(t.Context(), func(key, _ []byte) error {
		names[string(key)] = true
		return nil
	})
	for _, want := range []string{"A\x00X", "nfs4.0 A\x00X", "A unidentified"} {
		if !names[want] || len(names) != 3 {
			t.Errorf("no record of %q: %v", want, names)
		}
	}
	b := r.s.Bind(nfs4.ConnInfo{Grant: everything, Identity: "A"})
	s := &session{r: r, b: b, minor: 1, auth: sysAuth(0, 0)}
	do := func(ops ...call) *answer { return handle(b, s.auth, encodeCompound("", 1, ops...)) }
	ex := last[wire.ExchangeIDRes](t, do(exchangeID("X")))
	a := do(call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: ex.ClientID, SequenceID: ex.SequenceID, Fore: wide, Back: wide}})
	s.id = last[wire.CreateSessionRes](t, a).SessionID
	s.fails(wire.NFS4ERR_NOENT, putRoot, lookup("nothing to reclaim"))
	reclaim := openArgs("", forRead)
	reclaim.Claim = wire.CLAIM_PREVIOUS
	s.fails(wire.NFS4ERR_ISDIR, putRoot, call{wire.OP_OPEN, reclaim}) // and not NFS4ERR_RECLAIM_BAD
}

// Nor do client ids and stateids of minor version 0, which can be guessed, go from one identity to another.
func TestIdentitiesOfOldClients(t *testing.T) {
	r := newRig(t, nil)
	o := r.newOld("c")
	h, id := o.makeFile("f")
	o.ok(putFH(h), setAttr(wire.AnonymousStateid, withMode(0o600)), write(id, 0, "secret"))
	lock := last[wire.LockRes](t, o.ok(putFH(h), o.locks(id, "lo", 1, 0, 10))).Stateid

	b := r.s.Bind(nfs4.ConnInfo{Grant: everything, Identity: "somebody else", As: &nfs4.User{UID: 1001, GID: 1001}})
	owner := wire.Owner{ClientID: o.id, Owner: []byte("owner")}
	fresh := o.opens("g", wire.OPEN4_SHARE_ACCESS_BOTH, creating)
	o.seqid--
	for _, c := range []struct {
		name string
		op   call
		want wire.Status
	}{
		{"READ", read(id, 0, 10), wire.NFS4ERR_BAD_STATEID},
		{"WRITE", write(id, 0, "x"), wire.NFS4ERR_BAD_STATEID},
		{"SETATTR", setAttr(id, withSize(0)), wire.NFS4ERR_BAD_STATEID},
		{"CLOSE", call{wire.OP_CLOSE, &wire.CloseArgs{Stateid: id, Seqid: o.seqid}}, wire.NFS4ERR_BAD_STATEID},
		{"OPEN_DOWNGRADE", call{wire.OP_OPEN_DOWNGRADE, &wire.OpenDowngradeArgs{Stateid: id, Seqid: o.seqid, ShareAccess: 1}}, wire.NFS4ERR_BAD_STATEID},
		{"LOCK", call{wire.OP_LOCK, &wire.LockArgs{Type: wire.READ_LT, Length: 1, NewOwner: true, OpenSeqid: o.seqid,
			OpenStateid: id, Owner: owner}}, wire.NFS4ERR_BAD_STATEID},
		{"LOCKU", call{wire.OP_LOCKU, &wire.LockUArgs{Type: wire.WRITE_LT, Seqid: 2, Stateid: lock, Length: 10}}, wire.NFS4ERR_BAD_STATEID},
		{"LOCKT", call{wire.OP_LOCKT, &wire.LockTArgs{Type: wire.WRITE_LT, Length: 10, Owner: owner}}, wire.NFS4ERR_STALE_CLIENTID},
		{"OPEN", fresh, wire.NFS4ERR_STALE_CLIENTID},
		{"RENEW", call{wire.OP_RENEW, &wire.RenewArgs{ClientID: o.id}}, wire.NFS4ERR_STALE_CLIENTID},
		{"RELEASE_LOCKOWNER", call{wire.OP_RELEASE_LOCKOWNER, &wire.ReleaseLockOwnerArgs{Owner: owner}}, wire.NFS4ERR_STALE_CLIENTID},
	} {
		under := putFH(h)
		if c.name == "OPEN" {
			under = putRoot
		}
		if a := handle(b, o.auth, encodeCompound("", 0, under, c.op)); a.status != c.want {
			t.Errorf("%s: %v, want %v", c.name, a.status, c.want)
		}
	}
	if got := last[wire.ReadRes](t, o.ok(putFH(h), read(id, 0, 100))); string(got.Data) != "secret" {
		t.Errorf("the file has %q", got.Data)
	}
	o.ok(putFH(h), o.closes(id))
}

func TestStorageErrors(t *testing.T) {
	var reported []string
	r := newRig(t, func(o *nfs4.Options) {
		o.Events.StorageError = func(op string, err error) { reported = append(reported, op+": "+err.Error()) }
	})
	s := r.newSession("c")
	h, id := s.makeFile("f", 0o644)
	for _, c := range []struct {
		err    error
		want   wire.Status
		report bool
	}{
		{vfs.ErrNoSpace, wire.NFS4ERR_NOSPC, false},
		{vfs.ErrQuota, wire.NFS4ERR_DQUOT, false},
		{vfs.ErrBusy, wire.NFS4ERR_DELAY, false},
		{context.Canceled, wire.NFS4ERR_DELAY, false},
		{vfs.ErrKeyUnavailable, wire.NFS4ERR_IO, false},
		{vfs.ErrCorrupt, wire.NFS4ERR_IO, true},
		{fmt.Errorf("wrapped: %w", vfs.ErrIO), wire.NFS4ERR_IO, true},
		{errors.New("never heard of"), wire.NFS4ERR_IO, true},
	} {
		reported = nil
		r.fs.fail = c.err
		s.fails(c.want, putFH(h), write(id, 0, "x"))
		if (len(reported) == 1) != c.report {
			t.Errorf("%v: reported %q", c.err, reported)
		}
		if c.report && reported[0] != "WRITE: "+c.err.Error() {
			t.Errorf("reported %q", reported[0])
		}
	}
	r.fs.fail = vfs.ErrIO
	fresh := r.newSessionWith("new", wide)
	fresh.fails(wire.NFS4ERR_IO, reclaimComplete) // nobody obtains anything without a record
	r.fs.fail = nil
	fresh.fails(wire.NFS4ERR_GRACE, putRoot, create("g", 0o644))
	fresh.ok(reclaimComplete)
	fresh.ok(putRoot, create("g", 0o644))
}

// When the term is over, or the file system is fenced, nothing is answered any more.
func TestNoReplyAfterTheTerm(t *testing.T) {
	for _, fenced := range []bool{false, true} {
		term := &testTerm{done: make(chan struct{})}
		r := newRig(t, func(o *nfs4.Options) { o.Term = term })
		hungUp := 0
		r.b = r.s.Bind(nfs4.ConnInfo{Grant: everything, HangUp: func() { hungUp++ }})
		s := r.newSession("c")
		h, id := s.makeFile("f", 0o644)
		if fenced {
			r.fs.fail = fmt.Errorf("write: %w", vfs.ErrFenced)
		} else {
			term.over = true
		}
		for range 2 {
			if a := s.do(putFH(h), write(id, 0, "x")); !a.silent {
				t.Errorf("fenced %v: answered %+v", fenced, a)
			}
		}
		if hungUp != 1 {
			t.Errorf("fenced %v: hung up %d times", fenced, hungUp)
		}
		select {
		case <-r.s.Done():
		default:
			t.Errorf("fenced %v: the service goes on", fenced)
		}
		late := 0
		r.s.Bind(nfs4.ConnInfo{HangUp: func() { late++ }})
		if late != 1 {
			t.Error("a connection that came later was not hung up")
		}
	}
}

func TestTermsEndStopsTheService(t *testing.T) {
	term := &testTerm{done: make(chan struct{})}
	r := newRig(t, func(o *nfs4.Options) { o.Term = term })
	hungUp := make(chan struct{})
	r.s.Bind(nfs4.ConnInfo{HangUp: func() { close(hungUp) }})
	close(term.done)
	<-hungUp
	<-r.s.Done()
}

func TestBindings(t *testing.T) {
	r := newRig(t, nil)
	b := r.s.Bind(nfs4.ConnInfo{})
	if n := r.s.Stats().Bindings; n != 2 {
		t.Errorf("%d bindings", n)
	}
	b.Close()
	r.b.Close()
	if n := r.s.Stats().Bindings; n != 0 {
		t.Errorf("%d bindings are left", n)
	}
	r.s.Close()
	if a := r.raw(exchangeID("x")); !a.silent {
		t.Errorf("a closed service answered %+v", a)
	}
}

// After a restart old ids are told apart from the new ones, and what was open can be reclaimed.
func TestRestart(t *testing.T) {
	ended := make(chan int, 1)
	r := newRig(t, func(o *nfs4.Options) { o.Events.GraceEnded = func(lost int) { ended <- lost } })
	if n := r.fs.recoveries.Load(); n != 1 {
		t.Fatalf("%d recoveries at the first start", n)
	}
	old := r.newSession("c")
	r.newSession("lost")
	h, id := old.makeFile("f", 0o644)
	old.ok(putRoot, remove("f"))
	r.restart()

	old.b = r.b
	old.fails0(wire.NFS4ERR_BADSESSION)
	wantStatus(t, r.raw(call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: old.clientID, SequenceID: 2, Fore: wide, Back: wide}}), wire.NFS4ERR_STALE_CLIENTID)
	s := r.newSessionWith("c", wide)
	s.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), read(id, 0, 1))
	s.fails(wire.NFS4ERR_GRACE, putFH(h), read(wire.AnonymousStateid, 0, 1))
	s.fails(wire.NFS4ERR_GRACE, putFH(h), setAttr(wire.AnonymousStateid, withSize(0)))
	s.fails(wire.NFS4ERR_GRACE, putRoot, create("g", 0o644))
	s.fails(wire.NFS4ERR_GRACE, putRoot, remove("f"))
	s.fails(wire.NFS4ERR_GRACE, putRoot, saveFH, rename("f", "g"))

	reclaim := openArgs("", forBoth)
	reclaim.Claim = wire.CLAIM_PREVIOUS
	id = last[wire.OpenRes](t, s.ok(putFH(h), call{wire.OP_OPEN, reclaim})).Stateid
	s.ok(putFH(h), write(id, 0, "still there"))
	lock := &wire.LockArgs{Type: wire.WRITE_LT, Reclaim: true, Length: 1, NewOwner: true, OpenStateid: id}
	s.ok(putFH(h), call{wire.OP_LOCK, lock})
	stranger := r.newSession("stranger")
	stranger.fails(wire.NFS4ERR_NO_GRACE, putFH(h), call{wire.OP_OPEN, reclaim})
	other := r.newSessionWith("unknown", wide)
	other.fails(wire.NFS4ERR_RECLAIM_BAD, putFH(h), call{wire.OP_OPEN, reclaim})
	s.ok(call{wire.OP_RECLAIM_COMPLETE, &wire.ReclaimCompleteArgs{}})
	s.fails(wire.NFS4ERR_NO_GRACE, putFH(h), call{wire.OP_OPEN, reclaim})
	if !r.s.Stats().InGrace {
		t.Fatal("one known client has not come back, and the recovery phase is over")
	}
	r.now = r.now.Add(21 * time.Second)
	r.newSession("late") // whoever says RECLAIM_COMPLETE notices that the time is up
	if lost := <-ended; lost != 1 {
		t.Errorf("%d clients lost", lost)
	}
	if st := r.s.Stats(); st.InGrace {
		t.Error("the recovery phase goes on")
	}
	s.ok(putRoot, create("g", 0o644))
	for end := time.Now().Add(10 * time.Second); r.fs.recoveries.Load() != 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d recoveries", r.fs.recoveries.Load())
		}
	}
	records := 0
	if err := r.mem.EachClientRecord(t.Context(), func(key, _ []byte) error {
		records++
		if string(key) == "lost" {
			t.Error("the lost client could reclaim after the next restart")
		}
		return nil
	}); err != nil || records != 3 { // not of who never completed
		t.Errorf("%d records, %v", records, err)
	}
}

func TestRecoveryEndsWithTheLastReclaim(t *testing.T) {
	r := newRig(t, nil)
	r.newSession("a")
	r.newSession("b")
	r.restart()
	r.newSession("a")
	if !r.s.Stats().InGrace {
		t.Fatal("over after one of two")
	}
	s := r.newSession("b")
	if r.s.Stats().InGrace {
		t.Fatal("not over though everybody is back")
	}
	s.ok(putRoot, create("f", 0o644))
}

func TestDamagedRecordStopsTheStart(t *testing.T) {
	r := newRig(t, nil)
	if err := r.mem.PutClientRecord(t.Context(), []byte("k"), []byte("not a record")); err != nil {
		t.Fatal(err)
	}
	if s, err := nfs4.New(r.o); err == nil {
		s.Close()
		t.Error("the start went well")
	}
}

// A client that falls silent loses its lock to whoever wants it, and its record before that.
func TestExpiry(t *testing.T) {
	var expired []string
	r := newRig(t, func(o *nfs4.Options) {
		o.Events.ClientExpired = func(owner string) { expired = append(expired, owner) }
	})
	silent := r.newSession("silent")
	deny := openArgs("f", forBoth)
	deny.ShareDeny, deny.Create = wire.OPEN4_SHARE_DENY_BOTH, true
	silent.ok(putRoot, call{wire.OP_OPEN, deny})
	s := r.newSession("active")
	s.fails(wire.NFS4ERR_SHARE_DENIED, putRoot, open("f", forRead))
	r.now = r.now.Add(16 * time.Second)

	r.fs.fail = vfs.ErrIO
	s.ok() // renews the lease
	a := s.do(putRoot, open("f", forRead))
	if a.status == wire.NFS4_OK {
		t.Fatal("granted though the record could not be deleted")
	}
	r.fs.fail = nil
	s.ok(putRoot, open("f", forRead))
	if len(expired) != 1 || expired[0] != "silent" || r.fs.records != 1 {
		t.Errorf("expired %q, %d records", expired, r.fs.records)
	}
	silent.fails0(wire.NFS4ERR_BADSESSION)
	if len(r.fs.holds) != 1 {
		t.Errorf("holds: %v", r.fs.holds)
	}
}

// What a client that fell silent denies others keeps nobody from reading and writing without an open, in any minor version.
func TestExpiryByIO(t *testing.T) {
	anonymous := wire.AnonymousStateid
	for name, op := range map[string]call{
		"read": read(anonymous, 0, 1), "write": write(anonymous, 0, "x"), "truncate": setAttr(anonymous, withSize(0)),
	} {
		for _, minor := range []uint32{0, 1} {
			r := newRig(t, nil)
			silent := r.newSession("silent")
			deny := openArgs("f", forRead)
			deny.ShareDeny, deny.Create, deny.Attrs = wire.OPEN4_SHARE_DENY_BOTH, true, withMode(0o666)
			silent.ok(putRoot, call{wire.OP_OPEN, deny})
			s := r.newSession("active")
			do := func() wire.Status {
				ops := []call{putRoot, lookup("f"), op}
				if minor > 0 {
					return s.do(ops...).status
				}
				return handle(r.b, sysAuth(0, 0), encodeCompound("", 0, ops...)).status
			}
			if st := do(); st != wire.NFS4ERR_LOCKED {
				t.Errorf("%s, minor version %d, in time: %v", name, minor, st)
			}
			r.now = r.now.Add(16 * time.Second)
			s.ok() // renews the lease
			if st := do(); st != wire.NFS4_OK {
				t.Errorf("%s, minor version %d, when the lease has run out: %v", name, minor, st)
			}
			silent.fails0(wire.NFS4ERR_BADSESSION)
		}
	}
}

// The service's own goroutine drops clients that were silent for long and ends the recovery phase, without anybody asking.
func TestReaper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *nfs4.Options) { o.Now = time.Now })
		idle := r.newSession("idle")
		time.Sleep(20 * time.Second) // its lease is over, and its session still there
		idle.ok(putRoot)
		time.Sleep(time.Hour + time.Minute)
		synctest.Wait()
		if st := r.s.Stats(); st.Clients != 0 || r.fs.records != 0 {
			t.Errorf("%+v, %d records", st, r.fs.records)
		}
		r.newSession("gone at the restart")
		r.restart()
		time.Sleep(19 * time.Second)
		if !r.s.Stats().InGrace {
			t.Error("the recovery phase is over too early")
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if r.s.Stats().InGrace || r.fs.records != 0 || r.fs.recoveries.Load() != 2 {
			t.Errorf("in grace %v, %d records, %d recoveries", r.s.Stats().InGrace, r.fs.records, r.fs.recoveries.Load())
		}
		r.s.Close()
	})
}

// Many connections of many clients at once, while the service is closed.
func TestConcurrency(t *testing.T) {
	r := newRig(t, nil)
	r.o.FS = r.mem // the spy is for one at a time
	r.restart()
	var sessions []*session
	for i := range 4 {
		sessions = append(sessions, r.newSession(fmt.Sprint("client ", i)))
	}
	var wg sync.WaitGroup
	for i := range 16 {
		s := sessions[i%4]
		b := r.s.Bind(nfs4.ConnInfo{Grant: everything})
		wg.Go(func() {
			defer b.Close()
			slot := uint32(i / 4)
			for n := range 200 {
				seq := call{wire.OP_SEQUENCE, &wire.SequenceArgs{SessionID: s.id, SequenceID: uint32(n + 1), SlotID: slot, HighestSlot: slot}}
				if slot == 0 {
					seq.args.(*wire.SequenceArgs).SequenceID = s.seq + uint32(n) + 1
				}
				name := fmt.Sprint("file ", n%3)
				a := handle(b, sysAuth(0, 0), encodeCompound("", 1, seq, putRoot, create(name, 0o666), write(currentStateid, 0, name),
					read(currentStateid, 0, 100), closeFile(currentStateid), getAttr(wire.FATTR4_SIZE)))
				// Others of the same client and owner may have closed the file meanwhile.
				if !a.silent && a.status != wire.NFS4_OK && a.status != wire.NFS4ERR_BAD_STATEID && a.status != wire.NFS4ERR_OLD_STATEID {
					t.Errorf("%v", a.status)
				}
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	r.s.Close()
	wg.Wait()
}
