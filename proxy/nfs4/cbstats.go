package nfs4

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// cbNull stands for CB_NULL (RFC 8881 §19.1) among the callback operations: it is a procedure, and no operation
// has its number.
const cbNull = wire.CBOp(wire.CBProcNull)

// callbackOps are the callbacks that are sent (RFC 8881 §19, §20; CB_OFFLOAD: RFC 7862 §16.1). CB_SEQUENCE is not
// among them: it goes in front of each but CB_NULL.
var callbackOps = [...]wire.CBOp{cbNull, wire.OP_CB_GETATTR, wire.OP_CB_NOTIFY_LOCK, wire.OP_CB_OFFLOAD,
	wire.OP_CB_RECALL, wire.OP_CB_RECALL_ANY, wire.OP_CB_RECALL_SLOT}

// cbSlots is the room of tables that are indexed by callback operation.
const cbSlots = wire.OP_CB_OFFLOAD + 1

// cbFailure is what a callback came to nothing for.
type cbFailure int

const (
	cbNotSent cbFailure = iota
	cbNoAnswer
	cbError
	cbFailures
)

// cbCounter counts one kind of callback.
type cbCounter struct {
	sent     atomic.Uint64
	failures [cbFailures]atomic.Uint64
}

// CallbackStats counts one kind of callback since the start. One that had to be sent again, because the client was
// not ready or a connection ended, counts once, by what came of it in the end; one that is made anew later, for the client was not ready
// for long, counts anew.
type CallbackStats struct {
	Op   string // the protocol's name
	Sent uint64
	// NotSent had no connection to their client, or found too many that wait for it. They are not among Sent; all that
	// failed otherwise are.
	NotSent  uint64
	NoAnswer uint64 // within callbackTimeout, or until the connection ended
	Errors   uint64 // answered, but not with NFS4_OK, or not as the protocol has it
}

// DelegationStats counts delegations since the start.
type DelegationStats = state.DelegationStats

// sending notes that j is on its way to the client, perhaps once more.
func (c *callbacks) sending(j *job) {
	if j.sent {
		return
	}
	j.sent = true
	c.counters[j.op].sent.Add(1)
}

// count counts how j ended, if it failed.
func (c *callbacks) count(j *job, st wire.Status, err error) {
	if err != nil || st != wire.NFS4_OK {
		c.counters[j.op].failures[j.failure(err)].Add(1)
	}
}

// failure is what j has failed for, with err if no status came back.
func (j *job) failure(err error) cbFailure {
	switch {
	case !j.sent:
		return cbNotSent
	case errors.Is(err, errNoWay), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return cbNoAnswer
	}
	return cbError
}

// stats are the counts of all kinds, those that were never sent too: a counter that is only there from its first
// event on does not show that one as a rise.
func (c *callbacks) stats() []CallbackStats {
	all := make([]CallbackStats, 0, len(callbackOps))
	for _, op := range callbackOps {
		n := &c.counters[op]
		all = append(all, CallbackStats{Op: callbackName(op), Sent: n.sent.Load(), NotSent: n.failures[cbNotSent].Load(),
			NoAnswer: n.failures[cbNoAnswer].Load(), Errors: n.failures[cbError].Load()})
	}
	return all
}

func callbackName(op wire.CBOp) string {
	if op == cbNull {
		return "CB_NULL"
	}
	return op.String()
}
