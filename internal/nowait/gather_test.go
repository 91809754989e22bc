package nowait

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// someSlices are slices of all sizes, empty ones among them, and what they are together.
func someSlices(n int) (v [][]byte, all []byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	for k := range n {
		p := make([]byte, []int{0, 1, 28, 4096, 100_000, mostBytes + 7}[rng.IntN(6)])
		for i := range p {
			p[i] = byte(k + i*7>>3)
		}
		v, all = append(v, p), append(all, p...)
	}
	return v, all
}

// TestWriteBuffers writes more slices, and more bytes, than one call takes to a peer that reads late, and leaves the slices as they are.
func TestWriteBuffers(t *testing.T) {
	near, far := pair(t)
	s := NewSocket(near)
	for _, v := range [][][]byte{nil, {}, {nil}, {nil, {}}} {
		if n, err := s.WriteBuffers(v); n != 0 || err != nil {
			t.Errorf("writing nothing: %d, %v", n, err)
		}
	}
	v, all := someSlices(5 * mostPieces)
	kept := append([][]byte(nil), v...)
	got := make(chan []byte)
	go func() {
		time.Sleep(20 * time.Millisecond)
		p, _ := io.ReadAll(far)
		got <- p
	}()
	if n, err := s.WriteBuffers(v); n != int64(len(all)) || err != nil {
		t.Errorf("wrote %d of %d, %v", n, len(all), err)
	}
	if n, err := s.Write([]byte("end")); n != 3 || err != nil {
		t.Errorf("a write behind it: %d, %v", n, err)
	}
	near.CloseWrite()
	if p := <-got; !bytes.Equal(p, append(all, "end"...)) {
		t.Errorf("%d bytes of %d arrived, or others", len(p), len(all)+3)
	}
	for k := range v {
		if !bytes.Equal(v[k], kept[k]) {
			t.Fatalf("slice %d has changed", k)
		}
	}
}

// TestWriteBuffersErrors says how far it came at a deadline, and that the peer is gone.
func TestWriteBuffersErrors(t *testing.T) {
	near, far := pair(t)
	s := NewSocket(near)
	v, all := someSlices(500)
	near.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	n, err := s.WriteBuffers(v)
	if !errors.Is(err, os.ErrDeadlineExceeded) || n <= 0 || n >= int64(len(all)) {
		t.Errorf("after the deadline: %d of %d, %v", n, len(all), err)
	}
	got := make([]byte, n)
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, all[:n]) {
		t.Errorf("what was sent before the deadline is not what arrived (%v)", err)
	}
	near.SetWriteDeadline(time.Time{})
	far.SetLinger(0)
	far.Close()
	if _, err = s.WriteBuffers(v); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("after a reset: %v", err)
	}
	near.Close()
	if _, err := s.WriteBuffers(v); !errors.Is(err, net.ErrClosed) {
		t.Errorf("to a closed connection: %v", err)
	}
}
