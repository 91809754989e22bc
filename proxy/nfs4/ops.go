package nfs4

import (
	"sync/atomic"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// needs says which filehandles an operation wants.
type needs uint8

const (
	needCurrent needs = 1 << iota
	needSaved
)

// opDef is what the dispatcher knows of an operation. The zero opDef is one that is not served.
type opDef struct {
	// run executes the operation: it decodes the arguments, and writes the result behind number
	// and status. What it wrote is dropped if it fails, unless failureBody.
	run         func(c *compound) wire.Status
	needs       needs
	modifies    bool // changes the file system: needs Grant.Write
	onThreshold bool // allowed to clients without Grant.Mount, on what stands for the root (threshold.go)
	alone       bool // allowed without a session, as the only operation
	once        bool // must not be carried out twice, and nothing in its arguments tells
	failureBody bool // may have a result when it fails
	// resultBytes is the longest result of success, for operations with an effect: those must not
	// fail after they were executed.
	resultBytes int
}

const (
	lastOp   = wire.OP_REMOVEXATTR
	opSlots  = int(lastOp) + 2 // the last one counts what is not served at all
	otherOps = opSlots - 1

	changeInfoBytes          = 20
	bitmapBytes              = 16
	copyResultBytes          = 4 + wire.StateidBytes + 8 + 4 + 8 + 8
	createSessionResultBytes = 16 + 4 + 4 + 2*28
	setSSVResultBytes        = 4 + 64
	// delegationBytes is a write delegation with an entry for nobody.
	delegationBytes = 4 + wire.StateidBytes + 4 + 12 + 16
	openResultBytes = wire.StateidBytes + changeInfoBytes + 4 + bitmapBytes + delegationBytes
)

// slotOf is the place of op in tables.
func slotOf(op wire.Op) int {
	if op > lastOp {
		return otherOps
	}
	return int(op)
}

// lookupOp returns what is known of op, which may be any number, in c's minor version.
func (c *compound) lookupOp(op wire.Op) *opDef {
	slot := slotOf(op)
	if c.is40() && opTable40[slot] != nil {
		return opTable40[slot]
	}
	return &opTable[slot]
}

// opTable is everything that is served.
var opTable = [opSlots]opDef{
	wire.OP_ACCESS:               {run: opAccess, needs: needCurrent},
	wire.OP_ALLOCATE:             {run: opAllocate, needs: needCurrent, modifies: true},
	wire.OP_BACKCHANNEL_CTL:      {run: opBackchannelCtl},
	wire.OP_BIND_CONN_TO_SESSION: {run: opBindConnToSession, alone: true},
	wire.OP_CLONE:                {run: opClone, needs: needCurrent | needSaved, modifies: true},
	wire.OP_CLOSE:                {run: opClose, needs: needCurrent, resultBytes: wire.StateidBytes},
	wire.OP_COMMIT:               {run: opCommit, needs: needCurrent},
	wire.OP_COPY:                 {run: opCopy, needs: needCurrent | needSaved, modifies: true, resultBytes: copyResultBytes},
	wire.OP_CREATE:               {run: opCreate, needs: needCurrent, modifies: true, once: true, resultBytes: changeInfoBytes + bitmapBytes},
	wire.OP_CREATE_SESSION:       {run: opCreateSession, alone: true, resultBytes: createSessionResultBytes},
	wire.OP_DEALLOCATE:           {run: opDeallocate, needs: needCurrent, modifies: true},
	wire.OP_DELEGRETURN:          {run: opDelegReturn, needs: needCurrent},
	wire.OP_DESTROY_CLIENTID:     {run: opDestroyClientID, alone: true},
	wire.OP_DESTROY_SESSION:      {run: opDestroySession, alone: true},
	wire.OP_EXCHANGE_ID:          {run: opExchangeID, alone: true},
	wire.OP_FREE_STATEID:         {run: opFreeStateid},
	wire.OP_GETATTR:              {run: opGetAttr, needs: needCurrent, onThreshold: true},
	wire.OP_GETFH:                {run: opGetFH, needs: needCurrent, onThreshold: true},
	wire.OP_GETXATTR:             {run: opGetXattr, needs: needCurrent},
	wire.OP_IO_ADVISE:            {run: opIOAdvise, needs: needCurrent},
	wire.OP_LINK:                 {run: opLink, needs: needCurrent | needSaved, modifies: true, once: true, resultBytes: changeInfoBytes},
	wire.OP_LISTXATTRS:           {run: opListXattrs, needs: needCurrent},
	wire.OP_LOCK:                 {run: opLock, needs: needCurrent, failureBody: true, resultBytes: wire.StateidBytes},
	wire.OP_LOCKT:                {run: opLockT, needs: needCurrent, failureBody: true},
	wire.OP_LOCKU:                {run: opLockU, needs: needCurrent, resultBytes: wire.StateidBytes},
	wire.OP_LOOKUP:               {run: opLookup, needs: needCurrent},
	wire.OP_LOOKUPP:              {run: opLookupP, needs: needCurrent},
	wire.OP_NVERIFY:              {run: opNVerify, needs: needCurrent},
	wire.OP_OFFLOAD_CANCEL:       {run: opOffloadCancel},
	wire.OP_OFFLOAD_STATUS:       {run: opOffloadStatus},
	wire.OP_OPEN:                 {run: opOpen, needs: needCurrent, resultBytes: openResultBytes},
	wire.OP_OPEN_DOWNGRADE:       {run: opOpenDowngrade, needs: needCurrent, resultBytes: wire.StateidBytes},
	wire.OP_PUTFH:                {run: opPutFH},
	wire.OP_PUTPUBFH:             {run: opPutRootFH},
	wire.OP_PUTROOTFH:            {run: opPutRootFH},
	wire.OP_READ:                 {run: opRead, needs: needCurrent},
	wire.OP_READ_PLUS:            {run: opReadPlus, needs: needCurrent},
	wire.OP_READDIR:              {run: opReaddir, needs: needCurrent},
	wire.OP_READLINK:             {run: opReadlink, needs: needCurrent},
	wire.OP_RECLAIM_COMPLETE:     {run: opReclaimComplete},
	wire.OP_REMOVE:               {run: opRemove, needs: needCurrent, modifies: true, once: true, resultBytes: changeInfoBytes},
	wire.OP_REMOVEXATTR:          {run: opRemoveXattr, needs: needCurrent, modifies: true, resultBytes: changeInfoBytes},
	wire.OP_RENAME:               {run: opRename, needs: needCurrent | needSaved, modifies: true, once: true, resultBytes: 2 * changeInfoBytes},
	wire.OP_RESTOREFH:            {run: opRestoreFH, needs: needSaved},
	wire.OP_SAVEFH:               {run: opSaveFH, needs: needCurrent},
	wire.OP_SECINFO:              {run: opSecinfo, needs: needCurrent},
	wire.OP_SECINFO_NO_NAME:      {run: opSecinfoNoName, needs: needCurrent, onThreshold: true},
	wire.OP_SEEK:                 {run: opSeek, needs: needCurrent},
	wire.OP_SEQUENCE:             {run: opSequenceAgain},
	wire.OP_SET_SSV:              {run: opSetSSV, resultBytes: setSSVResultBytes},
	wire.OP_SETATTR:              {run: opSetAttr, needs: needCurrent, modifies: true, once: true, failureBody: true, resultBytes: bitmapBytes},
	wire.OP_SETXATTR:             {run: opSetXattr, needs: needCurrent, modifies: true, resultBytes: changeInfoBytes},
	wire.OP_TEST_STATEID:         {run: opTestStateid},
	wire.OP_VERIFY:               {run: opVerify, needs: needCurrent},
	wire.OP_WRITE:                {run: opWrite, needs: needCurrent, modifies: true, resultBytes: 16},
}

// opCounter counts one kind of operation.
type opCounter struct {
	calls    atomic.Uint64
	failures atomic.Uint64
}

func (o *opCounter) add(st wire.Status) {
	o.calls.Add(1)
	if st != wire.NFS4_OK {
		o.failures.Add(1)
	}
}

// OpStats counts one kind of operation since the start.
type OpStats struct {
	Op       string // the protocol's name; "OTHER" for what is not served at all
	Calls    uint64
	Failures uint64 // answered with anything but NFS4_OK
}

// Stats is what a Service has done and holds.
type Stats struct {
	Ops      []OpStats // those that were called
	Clients  int
	Sessions int
	Opens    int
	Locks    int
	// Delegations that are in effect, WriteDelegations those of them that are for writing, and Recalled those that
	// are wanted back.
	Delegations      int
	WriteDelegations int
	Recalled         int
	// Delegated is what has become of all delegations since the start.
	Delegated   DelegationStats
	RecallWaits RecallStats
	SSV         SSVStats        // of state protection
	Callbacks   []CallbackStats // all kinds that there are
	InGrace     bool
	Bindings    int
	CacheBytes  int // reserved for replies to be repeated
	// BytesRead and BytesWritten are of file contents that clients have read and written since the start.
	BytesRead    uint64
	BytesWritten uint64
}

// Stats counts.
func (s *Service) Stats() Stats {
	st := s.state.Stats()
	out := Stats{Clients: st.Clients, Sessions: st.Sessions, Opens: st.Opens, Locks: st.Locks,
		Delegations: st.Delegations, WriteDelegations: st.WriteDelegations, Recalled: st.Recalled,
		Delegated: st.Delegated, RecallWaits: s.recallWaits.stats(), Callbacks: s.callbacks.stats(),
		SSV: st.SSV, InGrace: st.InGrace, CacheBytes: st.CacheBytes,
		BytesRead: s.bytesRead.Load(), BytesWritten: s.bytesWritten.Load()}
	for i := range s.counters {
		n := s.counters[i].calls.Load()
		if n == 0 {
			continue
		}
		name := "OTHER"
		if i != otherOps {
			name = wire.Op(i).String()
		}
		out.Ops = append(out.Ops, OpStats{Op: name, Calls: n, Failures: s.counters[i].failures.Load()})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Bindings = len(s.bindings)
	return out
}
