package appliance

import (
	"context"
	"crypto/tls"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/memvfs"
)

// slowFS is read as the test lets it.
type slowFS struct {
	*memvfs.FS
	begun chan struct{} // something is about to be read
	reads chan struct{} // a send lets it; closed: all
	parts atomic.Int32
}

func (f *slowFS) Read(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset uint64, p []byte) (int, bool, error) {
	f.parts.Add(1)
	f.begun <- struct{}{}
	<-f.reads
	return f.FS.Read(ctx, cred, id, offset, p)
}

// serveSlowly has file system id served from a slowFS.
func (r *running) serveSlowly(t *testing.T, id string) *slowFS {
	t.Helper()
	mem, err := memvfs.New(memvfs.Options{RootMode: 0o777})
	check(t, err)
	f := &slowFS{FS: mem, begun: make(chan struct{}, 1000), reads: make(chan struct{})}
	service, err := nfs4.New(nfs4.Options{FS: f, FSID: nfs4.FSID{Major: 1, Minor: 1}, ServerOwner: []byte("slow"), ServerScope: []byte("slow"),
		Epoch: 1, HandleKey: make([]byte, nfs4.HandleKeyBytes)})
	check(t, err)
	r.table.mu.RLock()
	real := r.table.served[id]
	r.table.mu.RUnlock()
	r.table.set(id, service)
	t.Cleanup(func() {
		r.table.set(id, real)
		service.Close()
	})
	return f
}

// beginCopy has a client, whose backchannel is another connection of its, begin a copy of 65 MiB that goes on after its answer.
func (r *running) beginCopy(t *testing.T, id string, certificate *tls.Certificate) *nfsclient.Client {
	t.Helper()
	c, err := nfsclient.New(t.Context(), r.dialWith(t, id, certificate), nfsclient.Options{})
	check(t, err)
	t.Cleanup(c.Abandon)
	bindCallee(t, r.dialWith(t, id, certificate), c.SessionID())
	root, err := c.Root(t.Context())
	check(t, err)
	open := func(name string) *nfsclient.File {
		f, _, err := c.Open(t.Context(), root, name, nfsclient.OpenOptions{Read: true, Write: true, Create: true, Owner: "o"})
		check(t, err)
		return f
	}
	probe := open("probe")
	check(t, probe.Close(t.Context()))
	delegate(t, c, probe.Handle())
	from, to := open("from"), open("to")
	check(t, from.Truncate(t.Context(), 65<<20))
	args := wire.CopyArgs{CloneArgs: wire.CloneArgs{Source: from.Stateid(), Target: to.Stateid(), SourceOffset: 1}, Consecutive: true}
	reply := behindSequenceIn(t, c, 2, nfsclient.RawOp{Op: wire.OP_PUTFH, Args: &wire.PutFHArgs{Handle: []byte(from.Handle())}},
		nfsclient.RawOp{Op: wire.OP_SAVEFH}, nfsclient.RawOp{Op: wire.OP_PUTFH, Args: &wire.PutFHArgs{Handle: []byte(to.Handle())}},
		nfsclient.RawOp{Op: wire.OP_COPY, Args: &args})
	var sequence wire.SequenceRes
	var res wire.CopyRes
	check(t, reply.Expect(wire.OP_SEQUENCE, &sequence))
	for _, op := range []wire.Op{wire.OP_PUTFH, wire.OP_SAVEFH, wire.OP_PUTFH} {
		check(t, reply.Expect(op, nil))
	}
	check(t, reply.Expect(wire.OP_COPY, &res))
	if !res.Response.Async {
		t.Fatalf("not one that goes on: %+v", res)
	}
	return c
}

// TestCopyFollowsGrant has a connection end on which a copy was asked for that goes on. What the client may do changes then, and with the next
// part the copy ends.
func TestCopyFollowsGrant(t *testing.T) {
	var ahead atomic.Int64
	o := testOptions(t.TempDir())
	o.KeyCheckSeconds = 1
	o.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	r := start(t, o)
	for name, how := range map[string]func(id string) (*tls.Certificate, func()){
		"ClientWrite is taken away": func(id string) (*tls.Certificate, func()) {
			return clientCertificate(t, &certificateTemplate{fileSystem: id}), func() {
				check(t, r.PutFileSystemPolicy(t.Context(), id, policyText("ClientMount ClientRootAccess", "")))
			}
		},
		"the access point is deleted": func(id string) (*tls.Certificate, func()) {
			point := r.newPoint(t, catalog.AccessPoint{FileSystem: id, Root: catalog.RootDirectory{Path: "/"}})
			return clientCertificate(t, &certificateTemplate{fileSystem: id, accessPoint: point}), func() {
				check(t, r.DeleteAccessPoint(t.Context(), point))
			}
		},
		"the credentials' time is over": func(id string) (*tls.Certificate, func()) {
			s, token := r.assume(t, r.newRole(t, "writer", `{"Statement":{"Effect":"Allow","Action":"elasticfilesystem:Client*","Resource":"*"}}`), "")
			return clientCertificate(t, &certificateTemplate{
				fileSystem: id, secret: s.Secret, notAfter: time.Now().Add(10 * time.Hour),
				sign: r.signer(id, s.KeyID, func(c *transport.Connect) { c.SessionToken = token }),
			}), func() { ahead.Store(int64(time.Hour)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			id := r.create(t, name)
			f := r.serveSlowly(t, id)
			certificate, change := how(id)
			c := r.beginCopy(t, id, certificate)
			<-f.begun
			c.Abandon()
			r.until(t, "the connection is over", func() bool { return r.table.connectionsOf(id) == 1 })
			change()
			r.until(t, "the grant is gone", func() bool { return r.table.mayWrite(id) == 0 })
			close(f.reads)
			r.until(t, "the connection is forgotten", func() bool {
				r.table.mu.RLock()
				defer r.table.mu.RUnlock()
				return len(r.table.sessions[id]) <= 1
			})
			time.Sleep(50 * time.Millisecond) // for what must not happen
			if n := f.parts.Load(); n != 1 {
				t.Errorf("%d parts were copied", n)
			}
		})
	}
}

// mayWrite is how many connections to a file system may write to it.
func (t *table) mayWrite(id string) (n int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for s := range t.sessions[id] {
		if s.granted.Write {
			n++
		}
	}
	return n
}

func (r *running) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 2000 {
		if is() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("never so: ", what)
}
