package blockdev

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestPrepareJoins checks what becomes one transfer.
func TestPrepareJoins(t *testing.T) {
	b := Alloc(1 << 20)
	at := func(offset int64, blocks int) Request { return Request{offset * BlockBytes, b[:blocks*BlockBytes]} }
	many := make([]Request, 2*maxSegmentParts+1)
	for i := range many {
		many[i] = at(int64(i), 1)
	}
	tests := []struct {
		name  string
		batch []Request
		want  []int // bytes of each transfer, in blocks
	}{
		{"one", []Request{at(5, 2)}, []int{2}},
		{"adjacent", []Request{at(5, 2), at(7, 1), at(8, 3)}, []int{6}},
		{"gap", []Request{at(5, 2), at(8, 1)}, []int{2, 1}},
		{"backwards", []Request{at(7, 1), at(6, 1)}, []int{1, 1}},
		{"same", []Request{at(7, 1), at(7, 1)}, []int{1, 1}},
		{"too many parts", many, []int{maxSegmentParts, maxSegmentParts, 1}},
		{"too many bytes", []Request{at(0, 256), at(256, 256), at(512, 256), at(768, 256), at(1024, 1)}, []int{1024, 1}},
	}
	for _, test := range tests {
		var p plan
		p.prepare(0, test.batch, true)
		var got []int
		for _, transfer := range p.transfers {
			got = append(got, transfer.left/BlockBytes)
		}
		if len(got) != len(test.want) {
			t.Errorf("%s: transfers of %v blocks, want %v", test.name, got, test.want)
			continue
		}
		for i := range got {
			if got[i] != test.want[i] {
				t.Errorf("%s: transfers of %v blocks, want %v", test.name, got, test.want)
			}
		}
	}
}

// TestPartialTransfers has a kernel that does random parts, interrupts and asks to try again: every
// byte goes where it belongs, once.
func TestPartialTransfers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		var batch []Request
		var want []byte
		for i := range 1 + rng.IntN(6) {
			b := bytes.Repeat([]byte{byte(i + 1)}, (1+rng.IntN(3))*BlockBytes)
			batch = append(batch, Request{int64(len(want)), b})
			want = append(want, b...)
		}
		var p plan
		p.prepare(0, batch, true)
		one := &p.transfers[0]
		got := make([]byte, len(want))
		for one.left > 0 {
			switch rng.IntN(4) {
			case 0:
				one.finish(0, unix.EINTR)
			case 1:
				one.finish(0, unix.EAGAIN)
			default:
				n := 512 * (1 + rng.IntN(one.left/512))
				at, rest := one.offset, n
				for _, part := range one.parts {
					k := min(rest, int(part.Len))
					at += int64(copy(got[at:], unsafe.Slice(part.Base, k)))
					rest -= k
				}
				one.finish(n, 0)
			}
		}
		if one.failure != nil || !bytes.Equal(got, want) {
			t.Fatalf("parts were done twice or not at all (%v)", one.failure)
		}
	}
}

func TestTransferFailures(t *testing.T) {
	tests := []struct {
		n     int
		errno unix.Errno
		write bool
		want  error
	}{
		{0, unix.EIO, false, unix.EIO},
		{0, unix.ENOSPC, true, unix.ENOSPC},
		{0, unix.EBADE, true, ErrFenced},
		{0, 0, true, io.ErrShortWrite},
		{0, 0, false, io.ErrUnexpectedEOF},
	}
	for _, test := range tests {
		one := transfer{write: test.write, left: BlockBytes}
		if one.finish(test.n, test.errno); !errors.Is(one.failure, test.want) {
			t.Errorf("%+v: %v", test, one.failure)
		}
	}
}

// TestRing uses a ring as File never would: refused submissions, bad files, a queue of one.
func TestRing(t *testing.T) {
	r, err := newRing(4)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skipf("no io_uring here (%v); it runs as root on Linux 5.6 and later, in CI too", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var batch []Request
	for i := range 4 {
		batch = append(batch, Request{int64(2*i) * BlockBytes, bytes.Repeat([]byte{byte('a' + i)}, BlockBytes)})
	}
	check := func(what string) {
		t.Helper()
		for i := range batch {
			got := make([]byte, BlockBytes)
			if _, err := f.ReadAt(got, batch[i].Offset); err != nil || !bytes.Equal(got, batch[i].Buf) {
				t.Fatalf("%s: request %d was not done (%v)", what, i, err)
			}
		}
		if err := f.Truncate(0); err != nil {
			t.Fatal(err)
		}
	}

	var p plan
	p.prepare(int(f.Fd()), batch, true)
	p.begin()
	r.entering.Lock()
	r.mu.Lock()
	for i := range p.transfers {
		r.queue(&p, i, <-r.slots)
	}
	tail := *r.sqTail
	r.mu.Unlock()
	if !r.waits(tail) {
		t.Fatal("what is queued does not wait")
	}
	slots := r.takeBack()
	r.entering.Unlock()
	if r.waits(tail) {
		t.Fatal("what is taken back waits")
	}
	if len(slots) != 4 {
		t.Fatalf("took back %d", len(slots))
	}
	for _, n := range slots {
		r.plans[n].transfer().run()
		r.finished(n)
	}
	if <-p.done; p.err() != nil || len(r.slots) != 4 {
		t.Fatalf("%v, %d slots are free", p.err(), len(r.slots))
	}
	check("taken back")

	p.prepare(int(f.Fd()), batch, true)
	if r.run(&p); p.err() != nil {
		t.Fatal(p.err())
	}
	check("after taking back")

	p.prepare(-1, batch, true)
	if r.run(&p); !errors.Is(p.err(), unix.EBADF) {
		t.Fatalf("a file that is not open: %v", p.err())
	}
	p.prepare(int(f.Fd()), batch, true)
	p.transfers[2].fd = -1
	if r.run(&p); !errors.Is(p.err(), unix.EBADF) {
		t.Fatalf("one of four fails: %v", p.err())
	}
	for i, one := range p.transfers {
		if (one.failure != nil) != (i == 2) || (one.left != 0) != (i == 2) {
			t.Errorf("transfer %d: %d bytes left, %v", i, one.left, one.failure)
		}
	}
}

// TestIdleDeviceIsNotKeptWaiting has somebody ready to run when a transfer comes to an idle ring that others are about
// to use: the kernel has the transfer first. A preemption may spoil an attempt.
func TestIdleDeviceIsNotKeptWaiting(t *testing.T) {
	r, err := newRing(4)
	if err != nil {
		t.Skipf("no io_uring here (%v); it runs as root on Linux 5.6 and later, in CI too", err)
	}
	defer func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}()
	f, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	r.busy.Add(1)
	defer r.busy.Add(-1)
	for range 10 {
		var p plan
		p.prepare(int(f.Fd()), []Request{{0, Alloc(BlockBytes)}}, false)
		before := atomic.LoadUint32(r.sqHead)
		taken := make(chan bool, 1)
		go func() { taken <- atomic.LoadUint32(r.sqHead) != before }()
		r.run(&p)
		if err := p.err(); err != nil {
			t.Fatal(err)
		}
		if n := r.underWay(); n != 0 {
			t.Fatalf("%d transfers are under way after the last one has ended", n)
		}
		if <-taken {
			return
		}
	}
	t.Error("another goroutine ran before the kernel had the transfer, each time")
}

// slowFile is a file whose reads last until it is fed.
type slowFile struct {
	t          *testing.T
	ring       *ring
	read, feed *os.File
}

func newSlowFile(t *testing.T, r *ring) *slowFile {
	t.Helper()
	read, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(read.Close(), feed.Close()); err != nil {
			t.Error(err)
		}
	})
	if _, err := unix.FcntlInt(feed.Fd(), unix.F_SETPIPE_SZ, 2*largeBytes); err != nil {
		t.Fatal(err)
	}
	return &slowFile{t, r, read, feed}
}

// begin reads so many times n bytes, and gives the result when all are done.
func (f *slowFile) begin(count, n int) <-chan error {
	var batch []Request
	for i := range count {
		batch = append(batch, Request{int64(2 * i * n), Alloc(n)})
	}
	done, fd := make(chan error, 1), int(f.read.Fd())
	go func() {
		var p plan
		p.prepare(fd, batch, false)
		f.ring.run(&p)
		done <- p.err()
	}()
	return done
}

// end lets one read of n bytes end.
func (f *slowFile) end(n int) {
	f.t.Helper()
	if _, err := f.feed.Write(make([]byte, n)); err != nil {
		f.t.Fatal(err)
	}
}

// eventually waits for something to become true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for start := time.Now(); !is(); time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("never: %s", what)
		}
	}
}

// mustEnd waits for a plan.
func mustEnd(t *testing.T, what string, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s did not end", what)
	}
}

// TestLargeTransfersWait: beside enough of others on a device that runs dry, a large transfer waits for the next to end, and a
// small one does not; on one that does not run dry neither does.
func TestLargeTransfersWait(t *testing.T) {
	const enough = enoughBytes / largeBytes
	r, err := newRing(2 * enough)
	if err != nil {
		t.Skipf("no io_uring here (%v); it runs as root on Linux 5.6 and later, in CI too", err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	slow, quick := newSlowFile(t, r), newSlowFile(t, r)
	others := slow.begin(enough, largeBytes)
	eventually(t, "the others are under way", func() bool { return r.underWay() == enough })

	quick.end(largeBytes)
	large := quick.begin(1, largeBytes)
	eventually(t, "the large one waits", func() bool { return r.queued() == 1 && r.held.Load() })
	time.Sleep(10 * time.Millisecond)
	if r.underWay() != enough {
		t.Fatalf("%d are under way, want %d", r.underWay(), enough)
	}
	slow.end(largeBytes)
	mustEnd(t, "the large transfer, after one of the others", large)

	replaced := slow.begin(1, largeBytes)
	eventually(t, "with one more there are enough again", func() bool { return r.underWay() == enough })
	quick.end(BlockBytes)
	mustEnd(t, "a small transfer", quick.begin(1, BlockBytes))

	r.sinceDry.Store(dryBytes + 1)
	quick.end(largeBytes)
	mustEnd(t, "a large transfer on a device that does not run dry", quick.begin(1, largeBytes))
	for range enough {
		slow.end(largeBytes)
	}
	mustEnd(t, "the last one", replaced)
	mustEnd(t, "the others", others)
	if n := r.load.Load(); n != 0 {
		t.Errorf("%d bytes are under way in the end", n)
	}
	if quick.end(largeBytes); r.sinceDry.Load() <= dryBytes {
		t.Error("the device ran dry before it had nothing to do")
	}
	mustEnd(t, "a transfer of an idle device", quick.begin(1, largeBytes))
	if n := r.sinceDry.Load(); n != largeBytes {
		t.Errorf("%d bytes since the device had nothing to do, want %d", n, largeBytes)
	}
}

// TestFailedFlushPoisons: one failure and the device is of no use any more, but can be closed.
func TestFailedFlushPoisons(t *testing.T) {
	d, err := CreateFile(filepath.Join(t.TempDir(), "device"), 1<<20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.flush(func(int) error { return unix.EIO }); !errors.Is(err, ErrPoisoned) || !errors.Is(err, unix.EIO) {
		t.Errorf("failed flush: %v", err)
	}
	batch := []Request{{0, Alloc(BlockBytes)}}
	for name, err := range map[string]error{
		"Read": d.Read(batch), "Write": d.Write(batch), "Sync": d.Sync(), "Discard": d.Discard(0, 4096), "Grow": d.Grow(2 << 20),
	} {
		if !errors.Is(err, ErrPoisoned) {
			t.Errorf("%s: %v, want ErrPoisoned", name, err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestFlushRepeatsInterrupted: EINTR is not a failure.
func TestFlushRepeatsInterrupted(t *testing.T) {
	var d File
	calls := 0
	err := d.flush(func(int) error {
		if calls++; calls < 3 {
			return unix.EINTR
		}
		return nil
	})
	if err != nil || calls != 3 || d.poisoned.Load() {
		t.Errorf("%v after %d calls, poisoned %v", err, calls, d.poisoned.Load())
	}
}
