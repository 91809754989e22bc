package nfs4_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/rpc"
)

// serve serves the server's end of a connection; what it returns is closed when that has ended.
func (r *rig) serve(conn net.Conn) <-chan struct{} {
	b := r.s.Bind(nfs4.ConnInfo{Grant: everything, HangUp: func() { conn.Close() }})
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer b.Close()
		_ = rpc.ServeConn(context.Background(), conn, b, rpc.Options{}) // ends with the client
	}()
	return served
}

// join makes a client over a pipe to r, through the whole of RPC. gone is closed when the server's end has ended.
func (r *rig) join(t *testing.T, o nfsclient.Options) (c *nfsclient.Client, gone <-chan struct{}, err error) {
	near, far := net.Pipe()
	gone = r.serve(far)
	c, err = nfsclient.New(t.Context(), near, o)
	return c, gone, err
}

// connect is join for the length of the test.
func (r *rig) connect(t *testing.T, o nfsclient.Options) *nfsclient.Client {
	t.Helper()
	c, gone, err := r.join(t, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		<-gone
	})
	return c
}

// Many calls of several clients are under way at once, each on its own slot, and none gets what was
// another's.
func TestPipelinedClients(t *testing.T) {
	r := newRig(t, nil)
	r.o.FS = r.mem
	r.restart()
	var wg sync.WaitGroup
	for i := range 3 {
		c := r.connect(t, nfsclient.Options{Owner: fmt.Sprint("client ", i)})
		root, err := c.Root(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for j := range 20 {
			wg.Go(func() {
				name := fmt.Sprintf("file %d of %d", j, i)
				data := make([]byte, 1000*j+i)
				for k := range data {
					data[k] = byte(rand.Uint32())
				}
				if err := c.WriteFile(t.Context(), root, name, data, 0o644); err != nil {
					t.Error(err)
				}
				if got, err := c.ReadFile(t.Context(), root, name); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%q: %d bytes, %v", name, len(got), err)
				}
				if err := c.Remove(t.Context(), root, name); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if st := r.s.Stats(); st.Opens != 0 || st.Clients != 3 || st.Bindings != 4 {
		t.Errorf("left: %+v", st)
	}
}

// Closing the service ends the connections of its clients.
func TestCloseHangsUp(t *testing.T) {
	r := newRig(t, nil)
	c := r.connect(t, nfsclient.Options{})
	root, err := c.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Lookup(t.Context(), root, "x"); !errors.Is(err, wire.NFS4ERR_NOENT) {
		t.Errorf("got %v", err)
	}
	r.s.Close()
	<-c.Done()
}
