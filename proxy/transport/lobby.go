package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Lobby is where new connections wait until they have said enough to be worth a goroutine: a whole TLS record for those
// that begin as TLS, a few bytes for others. One that waits is a descriptor in one epoll(7) set, without a net.Conn,
// buffers or timers of its own, and its peer wakes nobody before there is enough (SO_RCVLOWAT, socket(7)). Those that
// are silent or too slow, and the oldest when there are too many, are reset, which leaves the kernel nothing to
// remember. Its methods may be called concurrently.
type Lobby struct {
	front   *Front
	admit   func(net.Conn)
	refused func(peer netip.AddrPort, err error)

	set *os.File // the epoll set, closed by run
	raw syscall.RawConn
	fd  int // set's, for those who hold mu and have found closed to be false, and for run
	wg  sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	waiting []*waiter // by descriptor, nil between
	order   waiter    // its next is the oldest, its previous one the newest, itself if nobody waits
	n       int       // how many wait
	entered int32     // how many there ever were, modulo 2^32
}

// waiter is a connection in a Lobby.
type waiter struct {
	fd    int
	turn  int32 // tells it from others that had the descriptor before
	peer  netip.AddrPort
	until time.Time

	previous, next *waiter // of the Lobby's order
}

// OpenLobby makes a Lobby whose connections count as f's: they wait up to f's SniffTimeout, and no more than its
// MaxPending. admit gets those that are to go on to Admit and owns them, refused hears of the others. Both may be called
// concurrently, in Accept and by the Lobby's goroutine, and must not wait.
func (f *Front) OpenLobby(admit func(net.Conn), refused func(peer netip.AddrPort, err error)) (*Lobby, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("transport: epoll_create1: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or the file would not be waited for, but block a thread
		unix.Close(fd)
		return nil, fmt.Errorf("transport: %w", err)
	}
	l := &Lobby{front: f, admit: admit, refused: refused, fd: fd}
	l.order.previous, l.order.next = &l.order, &l.order
	l.set = os.NewFile(uintptr(fd), "epoll")
	if l.raw, err = l.set.SyscallConn(); err != nil {
		l.set.Close()
		return nil, fmt.Errorf("transport: %w", err)
	}
	l.wg.Go(l.run)
	return l, nil
}

// Close resets all who wait, and returns when nobody is told of anything any more. What Accept takes afterwards is reset.
func (l *Lobby) Close() {
	l.mu.Lock()
	l.closed = true
	l.set.SetReadDeadline(time.Now())
	l.mu.Unlock()
	l.wg.Wait()
}

// Len is how many wait.
func (l *Lobby) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// PrepareListener readies a listening socket for Accept: what is accepted from it inherits a low-water mark, and is
// reset when it is closed.
func PrepareListener(listener syscall.RawConn) error {
	var option error
	err := listener.Control(func(fd uintptr) {
		option = errors.Join(lowWater(fd, recordHeader), linger(fd, unix.Linger{Onoff: 1}))
	})
	if err = errors.Join(err, option); err != nil {
		return fmt.Errorf("transport: %w", err)
	}
	return nil
}

// Accept waits for connections at a prepared listener, takes some of those that are there, and says how many. The error
// is accept(2)'s, or net.ErrClosed. While many wait it lets some more gather, so that a crowd which keeps
// dialling does not wake the daemon for each one.
func (l *Lobby) Accept(listener syscall.RawConn) (int, error) {
	if l.Len() > lobbyCalm {
		time.Sleep(lobbyPause)
	}
	var n int
	var failed error
	err := listener.Read(func(fd uintptr) bool {
		n, failed = l.take(int(fd))
		return n > 0 || failed != nil
	})
	if err != nil { // there is no deadline
		return 0, fmt.Errorf("%w: %w", net.ErrClosed, err)
	}
	return n, failed
}

// take accepts until there is nothing left, or enough for now.
func (l *Lobby) take(listener int) (n int, err error) {
	for n < lobbyBatch {
		// The one of package unix asks each socket for its protocol as well.
		fd, peer, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		switch {
		case err == nil:
			l.enter(&waiter{fd: fd, peer: addrPortOf(peer)})
			n++
		case errors.Is(err, unix.EAGAIN):
			return n, nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		default:
			return n, os.NewSyscallError("accept4", err)
		}
	}
	return n, nil
}

// enter lets w wait, and refuses the oldest if there are too many then.
func (l *Lobby) enter(w *waiter) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		unix.Close(w.fd)
		return
	}
	l.entered++
	w.turn, w.until = l.entered, time.Now().Add(l.front.o.SniffTimeout)
	// Edges, not levels: a socket that is short of memory is readable below its low-water mark.
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(w.fd), Pad: w.turn}
	if err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, w.fd, &event); err != nil {
		l.mu.Unlock()
		l.refuse(w, fmt.Errorf("%w: epoll_ctl: %w", ErrCrowded, err))
		return
	}
	l.addLocked(w)
	if l.n == 1 {
		l.set.SetReadDeadline(w.until.Add(lobbyGrain))
	}
	victim := l.leaveIfLocked(l.n > l.front.o.MaxPending, l.order.next)
	l.mu.Unlock()
	if victim != nil {
		l.makeRoom(victim)
	}
}

// makeRoom turns one away that is not in the Lobby any more, unless it has said enough and nobody had looked yet.
func (l *Lobby) makeRoom(victim *waiter) {
	if decided, err := heard(uintptr(victim.fd), false); err == nil && decided {
		l.pass(victim)
		return
	}
	l.refuse(victim, ErrCrowded)
}

// addLocked makes w the newest of those who wait.
func (l *Lobby) addLocked(w *waiter) {
	if missing := w.fd + 1 - len(l.waiting); missing > 0 {
		l.waiting = append(l.waiting, make([]*waiter, missing)...)
	}
	l.waiting[w.fd] = w
	w.previous, w.next = l.order.previous, &l.order
	w.previous.next, w.next.previous = w, w
	l.n++
	l.front.waiting.Add(1)
}

// leaveIfLocked takes w, if it is one who waits, out of the Lobby and returns it, or nil.
func (l *Lobby) leaveIfLocked(leaves bool, w *waiter) *waiter {
	if !leaves || w == &l.order {
		return nil
	}
	w.previous.next, w.next.previous = w.next, w.previous
	l.waiting[w.fd] = nil
	l.n--
	l.front.waiting.Add(-1)
	return w
}

// refuse resets a connection that is not in the Lobby any more: without the exchange, and the TIME-WAIT, of an orderly
// end (RFC 9293 §3.5), as PrepareListener has it.
func (l *Lobby) refuse(w *waiter, err error) {
	unix.Close(w.fd)
	l.front.count(err)
	l.refused(w.peer, err)
}

// run is the goroutine that looks at those who have said something, and ends the wait of the others.
func (l *Lobby) run() {
	defer l.set.Close()
	events := make([]unix.EpollEvent, lobbyBatch)
	for l.setDeadline() {
		n := 0
		// An error is that the deadline has passed; those of epoll_wait(2) are but EINTR, for a set that is ours.
		_ = l.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events, 0)
			return n != 0 || err != nil
		})
		for _, e := range events[:max(n, 0)] {
			l.look(&e)
		}
		l.expire(time.Now())
	}
	for w := l.oldest(time.Time{}); w != nil; w = l.oldest(time.Time{}) {
		unix.Close(w.fd)
	}
}

// setDeadline has run wait until the oldest has waited for too long, and is false when the Lobby is closed.
func (l *Lobby) setDeadline() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var deadline time.Time
	if l.n > 0 {
		deadline = l.order.next.until.Add(lobbyGrain)
	}
	l.set.SetReadDeadline(deadline)
	return !l.closed
}

// oldest takes out whoever has waited longest, if that one's time was over at now; the zero time is after everybody's.
func (l *Lobby) oldest(now time.Time) *waiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.order.next
	return l.leaveIfLocked(now.IsZero() || now.After(w.until), w)
}

// expire refuses those whose time is over.
func (l *Lobby) expire(now time.Time) {
	for w := l.oldest(now); w != nil; w = l.oldest(now) {
		err := ErrSilent
		if received(uintptr(w.fd)) > 0 {
			err = ErrSlow
		}
		l.refuse(w, err)
	}
}

// look lets a connection go on, or go, if what has happened to it is enough for that.
func (l *Lobby) look(e *unix.EpollEvent) {
	l.mu.Lock()
	w := l.waiting[e.Fd]
	if w == nil || w.turn != e.Pad {
		l.mu.Unlock()
		return // it left meanwhile
	}
	decided, err := heard(uintptr(e.Fd), e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0)
	w = l.leaveIfLocked(decided || err != nil, w)
	l.mu.Unlock()
	switch {
	case err != nil:
		l.refuse(w, err)
	case decided:
		l.pass(w)
	}
}

// heard says whether a socket has received enough; if not, it tells the kernel what is wanted, which looks at once whether
// that has come meanwhile. The error is why it never will.
func heard(fd uintptr, ended bool) (enough bool, err error) {
	var header [recordHeader]byte
	n, err := peekAt(fd, header[:])
	switch {
	case errors.Is(err, unix.EAGAIN) && !ended:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%w: %w", ErrGone, err)
	case n == 0:
		return false, fmt.Errorf("%w: %w", ErrGone, io.EOF)
	case ended:
		return true, nil // what follows has words for it
	}
	want := recordHeader
	if n == recordHeader {
		want = helloBytes(header) // 0 for what is not TLS
	}
	if received(fd) >= want {
		return true, nil
	}
	if err := lowWater(fd, want); err != nil {
		return false, fmt.Errorf("%w: %w", ErrGone, err)
	}
	return false, nil
}

// pass hands a connection on.
func (l *Lobby) pass(w *waiter) {
	_ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, w.fd, nil) // the net.Conn's descriptor would keep it in the set
	conn, err := netConn(w.fd)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrGone, err)
		l.front.count(err)
		l.refused(w.peer, err)
		return
	}
	l.admit(conn)
}

// netConn makes a net.Conn, as others are, of a socket, which it closes if it fails.
func netConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "")
	defer f.Close() // the net.Conn has a descriptor of its own
	if err := errors.Join(lowWater(uintptr(fd), 1), linger(uintptr(fd), unix.Linger{})); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// addrPortOf is an address as accept(2) gives it.
func addrPortOf(sa syscall.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
