package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// halfOpenCrowd is one thread with all connections of a crowd, so that the crowd costs the machine that it shares with the
// daemon as little as it can. It does not return.
type halfOpenCrowd struct {
	to    unix.SockaddrInet4
	epoll int
	conns []halfOpenConn
	dials []appointment // each queue in the order of time
	drips []appointment
	now   time.Time
	first int // dialled once
}

// halfOpenConn is one of the crowd; the odd ones are silent.
type halfOpenConn struct {
	fd     int // -1 while there is none
	dialed int
	sent   int // bytes of a ClientHello
}

// appointment is when something is to be done for a connection, unless it has been dialled anew since.
type appointment struct {
	at           time.Time
	conn, dialed int
}

// halfOpenHello is how a ClientHello of 512 bytes begins.
var halfOpenHello = append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, make([]byte, 501)...)

// crowd keeps connections to address half open, dials again when they are closed, and says so when each has been dialled
// once. Any error of the kernel's that is not the network's ends the process.
func crowd(address string) {
	to := netip.MustParseAddrPort(address)
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must(err)
	c := &halfOpenCrowd{to: unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}, epoll: epoll, now: time.Now(),
		conns: make([]halfOpenConn, halfOpenConns)}
	for i := range c.conns {
		c.conns[i].fd = -1
		c.dials = append(c.dials, appointment{c.now.Add(crowdPeriod / halfOpenConns * time.Duration(i)), i, 0})
	}
	events := make([]unix.EpollEvent, 256)
	for {
		c.keepAppointments()
		n, err := unix.EpollWait(c.epoll, events, 1+int(c.untilNext().Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			must(err)
		}
		c.now = time.Now()
		for _, e := range events[:max(n, 0)] {
			c.closed(int(e.Fd))
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// untilNext is how long there is nothing to do, at most a second.
func (c *halfOpenCrowd) untilNext() time.Duration {
	next := c.now.Add(time.Second)
	for _, queue := range [][]appointment{c.dials, c.drips} {
		if len(queue) > 0 && queue[0].at.Before(next) {
			next = queue[0].at
		}
	}
	return max(0, time.Until(next))
}

// keepAppointments does what is due.
func (c *halfOpenCrowd) keepAppointments() {
	c.now = time.Now()
	for len(c.dials) > 0 && !c.dials[0].at.After(c.now) {
		a := c.dials[0]
		c.dials = c.dials[1:]
		c.dial(a.conn)
	}
	for len(c.drips) > 0 && !c.drips[0].at.After(c.now) {
		a := c.drips[0]
		c.drips = c.drips[1:]
		if conn := &c.conns[a.conn]; conn.fd >= 0 && conn.dialed == a.dialed {
			c.drip(a.conn)
		}
	}
}

// dial opens a connection, and one that is not silent begins to speak.
func (c *halfOpenCrowd) dial(i int) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(err)
	conn := &c.conns[i]
	*conn = halfOpenConn{fd: fd, dialed: conn.dialed + 1}
	if conn.dialed == 1 {
		if c.first++; c.first == len(c.conns) {
			fmt.Println("all have connected")
		}
	}
	if err := unix.Connect(fd, &c.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		c.closed(i)
		return
	}
	must(unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(i)}))
	if i%2 == 0 {
		c.drip(i)
	}
}

// drip sends a byte and makes the appointment for the next one.
func (c *halfOpenCrowd) drip(i int) {
	conn := &c.conns[i]
	if conn.sent == len(halfOpenHello) {
		return
	}
	n, err := unix.Write(conn.fd, halfOpenHello[conn.sent:conn.sent+1])
	if err != nil && !errors.Is(err, unix.EAGAIN) { // it is not connected yet
		return // epoll tells of its end
	}
	conn.sent += max(n, 0)
	c.drips = append(c.drips, appointment{c.now.Add(dripEvery), i, conn.dialed})
}

// closed closes a connection that the server has ended or refused, and makes the appointment to dial again.
func (c *halfOpenCrowd) closed(i int) {
	conn := &c.conns[i]
	must(unix.Close(conn.fd))
	conn.fd = -1
	c.dials = append(c.dials, appointment{c.now.Add(dialAgainAfter), i, conn.dialed})
}
