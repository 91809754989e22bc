package appliance

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// tenant is a client of one file system with a file open and locked.
type tenant struct {
	*nfsclient.Client
	file *nfsclient.File
}

// newTenant is the last of several clients of the file system id, and its file the last of several that it has
// opened: what others have got there has lower numbers. All of them call themselves the same in every file system.
func (r *running) newTenant(t *testing.T, id string, clients int) *tenant {
	t.Helper()
	var x tenant
	for i := range clients {
		c, err := nfsclient.New(t.Context(), r.dial(t, id), nfsclient.Options{Owner: fmt.Sprint("host ", i)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Abandon)
		x.Client = c
		root, err := c.Root(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if x.file, _, err = c.Open(t.Context(), root, fmt.Sprint("file ", i), nfsclient.OpenOptions{Read: true, Write: true, Create: true}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := x.file.WriteAt(t.Context(), []byte(id), 0, wire.FILE_SYNC4); err != nil {
		t.Fatal(err)
	}
	if err := x.file.Lock(t.Context(), nfsclient.Range{Write: true}); err != nil {
		t.Fatal(err)
	}
	return &x
}

// raw sends operations and returns the status of the whole.
func (x *tenant) raw(t *testing.T, minor uint32, ops ...nfsclient.RawOp) wire.Status {
	t.Helper()
	reply, err := x.Compound(t.Context(), minor, ops...)
	if err != nil {
		t.Fatal(err)
	}
	return reply.Status
}

// inSession is raw behind a SEQUENCE of x's own session.
func (x *tenant) inSession(t *testing.T, ops ...nfsclient.RawOp) wire.Status {
	t.Helper()
	return behindSequence(t, x.Client, ops...).Status
}

// behindSequence sends operations behind a SEQUENCE of c's session, and does not come again if they are delayed.
func behindSequence(t *testing.T, c *nfsclient.Client, ops ...nfsclient.RawOp) *nfsclient.RawReply {
	t.Helper()
	return behindSequenceIn(t, c, 1, ops...)
}

func behindSequenceIn(t *testing.T, c *nfsclient.Client, minor uint32, ops ...nfsclient.RawOp) *nfsclient.RawReply {
	t.Helper()
	slot, next, release, err := c.HoldSlot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release(next + 1)
	sequence := nfsclient.RawOp{Op: wire.OP_SEQUENCE, Args: &wire.SequenceArgs{SessionID: c.SessionID(), SequenceID: next, SlotID: slot, HighestSlot: slot}}
	reply, err := c.Compound(t.Context(), minor, append([]nfsclient.RawOp{sequence}, ops...)...)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// unharmed says that x has all that it had: session, open file and content.
func (x *tenant) unharmed(t *testing.T, after, content string) {
	t.Helper()
	p := make([]byte, 100)
	n, _, err := x.file.ReadAt(t.Context(), p, 0)
	if err != nil || string(p[:n]) != content {
		t.Errorf("after %s: %q, %v; want %q", after, p[:n], err, content)
	}
	other := nfsclient.Range{Write: true, Owner: "somebody else"}
	if err := x.file.TestLock(t.Context(), other); !errors.Is(err, wire.NFS4ERR_DENIED) {
		t.Errorf("after %s: the lock: %v", after, err)
	}
}

// foreign are requests with something in them that belongs to x, and how a server refuses them that has never
// given it out. own is a file of the caller's.
func (x *tenant) foreign(own nfsclient.Handle) (alone, inSession map[string]foreignRequest) {
	stateid := x.file.Stateid()
	op := func(op wire.Op, args nfsclient.Encoder) nfsclient.RawOp { return nfsclient.RawOp{Op: op, Args: args} }
	putFH := func(h []byte) nfsclient.RawOp { return op(wire.OP_PUTFH, &wire.PutFHArgs{Handle: h}) }
	request := func(want wire.Status, ops ...nfsclient.RawOp) foreignRequest { return foreignRequest{ops, want} }
	onOwn := func(code wire.Op, args nfsclient.Encoder) foreignRequest {
		return request(wire.NFS4ERR_BAD_STATEID, putFH([]byte(own)), op(code, args))
	}
	forged := []byte(x.file.Handle())
	copy(forged[4:20], own[4:20]) // the caller's file system
	alone = map[string]foreignRequest{
		"SEQUENCE": request(wire.NFS4ERR_BADSESSION, op(wire.OP_SEQUENCE, &wire.SequenceArgs{SessionID: x.SessionID(), SequenceID: 1})),
		"BIND_CONN_TO_SESSION": request(wire.NFS4ERR_BADSESSION,
			op(wire.OP_BIND_CONN_TO_SESSION, &wire.BindConnToSessionArgs{SessionID: x.SessionID(), Dir: wire.CDFC4_FORE})),
		"DESTROY_SESSION": request(wire.NFS4ERR_BADSESSION, op(wire.OP_DESTROY_SESSION, &wire.DestroySessionArgs{SessionID: x.SessionID()})),
		"CREATE_SESSION": request(wire.NFS4ERR_STALE_CLIENTID,
			op(wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: x.ClientID(), SequenceID: 2, Fore: x.Channel(), Back: x.Channel()})),
		"DESTROY_CLIENTID": request(wire.NFS4ERR_STALE_CLIENTID, op(wire.OP_DESTROY_CLIENTID, &wire.DestroyClientIDArgs{ClientID: x.ClientID()})),
	}
	inSession = map[string]foreignRequest{
		"PUTFH":            request(wire.NFS4ERR_STALE, putFH([]byte(x.file.Handle()))),
		"PUTFH, forged":    request(wire.NFS4ERR_BADHANDLE, putFH(forged)),
		"READ":             onOwn(wire.OP_READ, &wire.ReadArgs{Stateid: stateid, Count: 100}),
		"WRITE":            onOwn(wire.OP_WRITE, &wire.WriteArgs{Stateid: stateid, Data: []byte("harm")}),
		"SETATTR":          onOwn(wire.OP_SETATTR, &wire.SetAttrArgs{Stateid: stateid, Attrs: wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_SIZE)}}),
		"CLOSE":            onOwn(wire.OP_CLOSE, &wire.CloseArgs{Stateid: stateid}),
		"OPEN_DOWNGRADE":   onOwn(wire.OP_OPEN_DOWNGRADE, &wire.OpenDowngradeArgs{Stateid: stateid, ShareAccess: wire.OPEN4_SHARE_ACCESS_READ}),
		"LOCK":             onOwn(wire.OP_LOCK, &wire.LockArgs{Type: wire.READ_LT, Length: 1, NewOwner: true, OpenStateid: stateid}),
		"DELEGRETURN":      onOwn(wire.OP_DELEGRETURN, &wire.DelegReturnArgs{Stateid: stateid}),
		"FREE_STATEID":     request(wire.NFS4ERR_BAD_STATEID, op(wire.OP_FREE_STATEID, &wire.FreeStateidArgs{Stateid: stateid})),
		"DESTROY_SESSION":  alone["DESTROY_SESSION"],
		"DESTROY_CLIENTID": alone["DESTROY_CLIENTID"],
	}
	return alone, inSession
}

type foreignRequest struct {
	ops  []nfsclient.RawOp
	want wire.Status
}

// TestWhatIsOfAnotherFileSystem uses sessions, client ids, stateids and handles of one file system over
// connections to the other: they are refused as what was never given out, and no harm comes to their owner.
func TestWhatIsOfAnotherFileSystem(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	first, second := r.create(t, "a"), r.create(t, "b")
	a := r.newTenant(t, first, 4)
	b := r.newTenant(t, second, 1)
	alone, inSession := a.foreign(b.file.Handle())
	for name, c := range alone {
		if got := b.raw(t, 1, c.ops...); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		a.unharmed(t, name, first)
	}
	for name, c := range inSession {
		if got := b.inSession(t, c.ops...); got != c.want {
			t.Errorf("%s in a session: %v, want %v", name, got, c.want)
		}
		a.unharmed(t, name, first)
		b.unharmed(t, name, second)
	}
	twin := r.newTenant(t, second, 4) // who calls itself the same there is somebody else
	if err := twin.Close(); err != nil {
		t.Error(err)
	}
	a.unharmed(t, "the end of its twin", first)
	if err := a.file.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
}

// The same for a client id of minor version 0.
func TestOldClientIDOfAnotherFileSystem(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	a, b := r.newTenant(t, r.create(t, "a"), 4), r.newTenant(t, r.create(t, "b"), 1)
	reply, err := a.Compound(t.Context(), 0, nfsclient.RawOp{Op: wire.OP_SETCLIENTID, Args: &wire.SetClientIDArgs{ID: []byte("old")}})
	if err != nil {
		t.Fatal(err)
	}
	var id wire.SetClientIDRes
	if err := reply.Expect(wire.OP_SETCLIENTID, &id); err != nil {
		t.Fatal(err)
	}
	confirm := nfsclient.RawOp{Op: wire.OP_SETCLIENTID_CONFIRM, Args: &id}
	renew := nfsclient.RawOp{Op: wire.OP_RENEW, Args: &wire.RenewArgs{ClientID: id.ClientID}}
	for _, c := range []struct {
		at   *tenant
		op   nfsclient.RawOp
		want wire.Status
	}{
		{b, confirm, wire.NFS4ERR_STALE_CLIENTID}, {a, confirm, wire.NFS4_OK},
		{b, renew, wire.NFS4ERR_STALE_CLIENTID}, {a, renew, wire.NFS4_OK},
	} {
		if got := c.at.raw(t, 0, c.op); got != c.want {
			t.Errorf("%v: %v, want %v", c.op.Op, got, c.want)
		}
	}
}
