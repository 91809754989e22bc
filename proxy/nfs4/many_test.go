package nfs4_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// manyClients are there at once; atOnce of them do something.
const (
	manyClients = 1000
	atOnce      = 64
	// leftBytes may be left of each, in maps that have grown and for goroutines to come. One that is there
	// takes ten times as much.
	leftBytes = 8 << 10
)

// forEach calls f for each client, for atOnce of them at a time, and reports what goes wrong.
func forEach(t *testing.T, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for i := range manyClients {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			if err := f(i); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// contentOf is what client i writes: no two have the same.
func contentOf(i int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%d of a thousand; ", i), 1+i%97)
}

// useFile has client i write its file, look at it, and read it back.
func useFile(t *testing.T, c *nfsclient.Client, i int) error {
	root, err := c.Root(t.Context())
	if err != nil {
		return err
	}
	name, content := fmt.Sprint("file ", i), contentOf(i)
	if err := c.WriteFile(t.Context(), root, name, content, 0o644); err != nil {
		return err
	}
	h, _, err := c.Lookup(t.Context(), root, name)
	if err != nil {
		return err
	}
	var a wire.Attrs
	if err := c.GetAttr(t.Context(), h, wire.BitmapOf(wire.FATTR4_SIZE), &a); err != nil {
		return err
	}
	got, err := c.ReadFile(t.Context(), root, name)
	if err == nil && (a.Size != uint64(len(content)) || !bytes.Equal(got, content)) {
		err = fmt.Errorf("%d bytes by GETATTR, %d read, want %d", a.Size, len(got), len(content))
	}
	return errors.Join(err, c.Remove(t.Context(), root, name))
}

// heapBytes is what is in use after a collection.
func heapBytes() uint64 {
	runtime.GC()
	runtime.GC() // what was in pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A thousand clients with a session and a connection each: every one gets its own answers, and when they have
// gone there is nothing left of them.
func TestAThousandClients(t *testing.T) {
	r := newRig(t, nil)
	r.o.FS = r.mem // the spy is for one at a time
	r.restart()
	goroutines, heap := runtime.NumGoroutine(), heapBytes()
	clients := make([]*nfsclient.Client, manyClients)
	gone := make([]<-chan struct{}, manyClients)
	forEach(t, func(i int) (err error) {
		clients[i], gone[i], err = r.join(t, nfsclient.Options{Owner: fmt.Sprint("client ", i), Slots: 1, MaxBytes: 64 << 10})
		return err
	})
	forEach(t, func(i int) error { return useFile(t, clients[i], i) })
	st := r.s.Stats()
	if st.Clients != manyClients || st.Sessions != manyClients || st.Bindings != manyClients+1 || st.Opens != 0 {
		t.Errorf("%d clients with %d sessions, %d connections and %d open files", st.Clients, st.Sessions, st.Bindings-1, st.Opens)
	}
	forEach(t, func(i int) error { return clients[i].Renew(t.Context()) }) // each session is its own still
	forEach(t, func(i int) error {
		err := clients[i].Close()
		<-gone[i]
		return err
	})
	clients, gone = nil, nil
	if st := r.s.Stats(); st.Clients != 0 || st.Sessions != 0 || st.Bindings != 1 || st.CacheBytes != 0 {
		t.Errorf("left: %+v", st)
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	if after := heapBytes(); after > heap+manyClients*leftBytes {
		t.Errorf("%d bytes, %d before", after, heap)
	}
	r.newSession("one more").ok(putRoot, getFH)
}
