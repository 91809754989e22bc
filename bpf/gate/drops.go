package gate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"

	"github.com/cilium/ebpf/ringbuf"
)

// A Drop is a packet that was refused.
type Drop struct {
	Verdict   Verdict
	Source    netip.AddrPort // without a port but for TCP and UDP; invalid for what isn't IP
	To        netip.AddrPort
	Target    string // the mount target's ID, or ""
	Interface int    // index
	Protocol  uint8
	TCPFlags  uint8
	Bytes     int // of the frame
}

// Drops calls each with a sample of the drops to come (Rules.SampleEvery, Rules.EventsPerSecond), one
// at a time, from a goroutine of the gate's, until ctx is done or the gate is closed. While each
// doesn't return, events are lost, not packets. There may be one reader at a time.
func (g *Gate) Drops(ctx context.Context, each func(Drop)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	if g.reader != nil {
		return errors.New("gate: drops are being read already")
	}
	reader, err := ringbuf.NewReader(g.objects.Events)
	if err != nil {
		return translate("ring buffer", err)
	}
	g.reader = reader
	g.wg.Go(func() { g.readDrops(ctx, reader, each) })
	return nil
}

func (g *Gate) readDrops(ctx context.Context, reader *ringbuf.Reader, each func(Drop)) {
	stop := context.AfterFunc(ctx, func() { reader.Close() })
	defer stop()
	defer g.endOfDrops(reader)
	var record ringbuf.Record
	for {
		err := reader.ReadInto(&record)
		if errors.Is(err, os.ErrClosed) || err != nil {
			return
		}
		var e programDropEvent
		if binary.Read(bytes.NewReader(record.RawSample), binary.NativeEndian, &e) == nil {
			each(g.dropOf(&e))
		}
	}
}

func (g *Gate) endOfDrops(reader *ringbuf.Reader) {
	reader.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reader = nil
}

func (g *Gate) dropOf(e *programDropEvent) Drop {
	d := Drop{
		Verdict: Verdict(e.Verdict), Interface: int(e.Interface), Protocol: e.Protocol,
		TCPFlags: e.TcpFlags, Bytes: int(e.Bytes),
	}
	if e.Family != 0 {
		d.Source = netip.AddrPortFrom(addrOf(e.BeSource), e.SourcePort)
		d.To = netip.AddrPortFrom(addrOf(e.BeTarget), e.TargetPort)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	d.Target = g.nameLocked(e.Slot)
	return d
}
