package nfs4

import (
	"context"
	"slices"
	"sync"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// offloads are the copies that go on after their answers (RFC 7862 §4): package state knows them and
// bounds their number, and each has a goroutine with one buffer here, which close waits for.
type offloads struct {
	s   *Service
	ctx context.Context
	end context.CancelFunc
	wg  sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	running map[[12]byte]chan struct{} // by stateid; closed when the copy's goroutine touches no file any more
}

func newOffloads(s *Service) *offloads {
	ctx, cancel := context.WithCancel(context.Background())
	return &offloads{s: s, ctx: ctx, end: cancel, running: make(map[[12]byte]chan struct{})}
}

// close ends what is under way and returns when the goroutines have gone.
func (o *offloads) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.end()
	o.wg.Wait()
}

// start has job done in the background, as copy id of binding b. After close nothing is done, nor
// answered.
func (o *offloads) start(b *Binding, id wire.Stateid, job *copying) {
	own := *job
	own.writer.Groups = slices.Clone(job.writer.Groups) // they are the compound's
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	idle := make(chan struct{})
	o.running[id.Other] = idle
	b.beginUse()
	o.wg.Go(func() {
		st := o.move(b, id, &own)
		b.endUse()
		o.mu.Lock()
		delete(o.running, id.Other)
		o.mu.Unlock()
		close(idle)
		o.s.state.EndCopy(&id, st)
	})
}

// move copies part after part until all is done or something is in the way.
func (o *offloads) move(b *Binding, id wire.Stateid, job *copying) wire.Status {
	buffer := o.s.copyBuffers.Get().(*[]byte)
	defer o.s.copyBuffers.Put(buffer)
	for done := uint64(0); done < job.length; {
		switch grant := b.grant.Load(); {
		case o.s.verifier() != job.verifier:
			return wire.NFS4ERR_IO // what was copied may be lost
		case o.ctx.Err() != nil || !o.s.mayAnswer():
			return wire.NFS4ERR_DELAY
		case !grant.Mount:
			return wire.NFS4ERR_ACCESS
		case !grant.Write:
			return wire.NFS4ERR_ROFS
		}
		if st := o.s.state.EnterPart(&id); st != wire.NFS4_OK {
			return st
		}
		n, err := o.s.copyPart(o.ctx, job, done, (*buffer)[:min(job.length-done, MaxIOBytes)])
		o.s.state.LeavePart(&id, n)
		done += n
		switch {
		case err != nil:
			return o.s.storageError("COPY", err)
		case n == 0:
			return wire.NFS4_OK // the source has become shorter
		}
	}
	return wire.NFS4_OK
}

// wait returns when copy id touches no file any more: after the part that is being moved.
func (o *offloads) wait(id wire.Stateid) {
	o.mu.Lock()
	idle := o.running[id.Other]
	o.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

// await is wait for each of some copies.
func (o *offloads) await(moving []wire.Stateid) {
	for _, id := range moving {
		o.wait(id)
	}
}

// endCopies calls end, which takes from a stateid what copies need, until nothing is moved any more for which it waits: others may have
// the file then. A copy that is begun meanwhile is waited for too.
func (c *compound) endCopies(end func() (moving []wire.Stateid, st wire.Status)) wire.Status {
	for {
		moving, st := end()
		if len(moving) == 0 {
			return st
		}
		c.s.offloads.await(moving)
	}
}

// offload lets job go on after its answer, if the client allows that and can be told of the end.
func (c *compound) offload(a *wire.CopyArgs, job *copying) (id wire.Stateid, ok bool) {
	if a.Synchronous || job.length <= maxCopyBytes || job.cred != nil ||
		state.Classify(&a.Source) != state.Ordinary || state.Classify(&a.Target) != state.Ordinary {
		return id, false
	}
	id, st := c.s.state.BeginCopy(&c.ticket, &state.CopyRequest{From: state.File(job.from), To: state.File(job.to),
		Source: a.Source, Target: a.Target, Verifier: job.verifier})
	if st != wire.NFS4_OK {
		return id, false
	}
	c.s.offloads.start(c.b, id, job)
	return id, true
}

// opOffloadStatus serves OFFLOAD_STATUS (RFC 7862 §15.9).
func opOffloadStatus(c *compound) wire.Status {
	var a wire.OffloadArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	p, st := c.s.state.CopyProgress(&c.ticket, &a.Stateid)
	if st != wire.NFS4_OK {
		return st
	}
	res := wire.OffloadStatusRes{Count: p.Copied, Complete: p.Ended, Status: p.Status}
	res.Encode(c.out)
	return wire.NFS4_OK
}

// opOffloadCancel serves OFFLOAD_CANCEL (RFC 7862 §15.8). Nothing is written after its answer.
func opOffloadCancel(c *compound) wire.Status {
	var a wire.OffloadArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := c.s.state.CancelCopy(&c.ticket, &a.Stateid); st != wire.NFS4_OK {
		return st
	}
	c.s.offloads.wait(a.Stateid)
	return wire.NFS4_OK
}

// Copied implements state.Callbacks. The verifier is that from before the copy: what was lost since, the client finds when it commits.
func (c *callbacks) Copied(n state.CopyNotice) {
	args := wire.CBOffloadArgs{Handle: c.handleOf(n.File), Stateid: n.Stateid, Status: n.Status, Bytes: n.Copied,
		Committed: wire.UNSTABLE4, Verifier: n.Verifier}
	c.send(n.Client, &job{op: wire.OP_CB_OFFLOAD, args: args.Encode, granted: n.Granted, hasGranted: n.HasGranted,
		patient: true, done: func(st wire.Status, _ *xdr.Decoder, err error) {
			switch {
			case err != nil:
			case st == wire.NFS4_OK:
				c.s.state.ToldOfCopy(&n.Stateid)
			case st == wire.NFS4ERR_DELAY:
				c.s.state.CopyDeferred(&n.Stateid)
			}
		}})
}
