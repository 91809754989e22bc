package appliance

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// callee is the client's end of a connection that is bound to a session's backchannel: it says yes to all callbacks
// without a result.
type callee struct{ attached chan *rpc.Caller }

func (c callee) Attach(caller *rpc.Caller) { c.attached <- caller }

func (callee) Handle(_ context.Context, call *rpc.Call, reply *xdr.Encoder) {
	call.Succeed(reply)
	if call.Procedure == wire.CBProcNull {
		return
	}
	var head wire.CBCompoundArgs
	var seq wire.CBSequenceArgs
	var w wire.CompoundWriter
	head.Decode(&call.Args)
	w.Begin(reply, head.Tag)
	at := w.BeginOp(wire.ReadOp(&call.Args))
	seq.Decode(&call.Args)
	res := wire.CBSequenceRes{SessionID: seq.SessionID, SequenceID: seq.SequenceID, SlotID: seq.SlotID}
	res.Encode(reply)
	w.EndOp(at, wire.NFS4_OK)
	w.EndOp(w.BeginOp(wire.ReadOp(&call.Args)), wire.NFS4_OK)
	w.End(wire.NFS4_OK)
}

// bindCallee makes conn, which it closes in the end, the backchannel of a session.
func bindCallee(t *testing.T, conn net.Conn, session wire.SessionID) {
	t.Helper()
	c := callee{make(chan *rpc.Caller, 1)}
	var wg sync.WaitGroup
	wg.Go(func() { _ = rpc.ServeConn(context.Background(), conn, c, rpc.Options{}) }) // ends with the connection
	t.Cleanup(func() {
		conn.Close()
		wg.Wait()
	})
	bind := wire.BindConnToSessionArgs{SessionID: session, Dir: wire.CDFC4_BACK}
	res, err := (<-c.attached).Call(t.Context(), &rpc.Outgoing{Program: wire.Program, Version: wire.RPCVersion, Procedure: wire.ProcCompound,
		Args: func(e *xdr.Encoder) {
			head := wire.CompoundArgs{MinorVersion: 1, Ops: 1}
			head.Encode(e)
			e.Uint32(uint32(wire.OP_BIND_CONN_TO_SESSION))
			bind.Encode(e)
		}})
	var head wire.CompoundRes
	head.Decode(&res)
	if err != nil || res.Err() != nil || head.Status != wire.NFS4_OK {
		t.Fatalf("BIND_CONN_TO_SESSION: %v, %v, %v", err, res.Err(), head.Status)
	}
}

// rawOn does one operation on a file, and does not come again if that is delayed.
func rawOn(t *testing.T, c *nfsclient.Client, file nfsclient.Handle, op nfsclient.RawOp) (*nfsclient.RawReply, error) {
	t.Helper()
	r := behindSequence(t, c, nfsclient.RawOp{Op: wire.OP_PUTFH, Args: &wire.PutFHArgs{Handle: []byte(file)}}, op)
	var got wire.SequenceRes
	if err := r.Expect(wire.OP_SEQUENCE, &got); err != nil {
		t.Fatal(err)
	}
	if err := r.Expect(wire.OP_PUTFH, nil); err != nil {
		t.Fatal(err)
	}
	if r.Status != wire.NFS4_OK {
		return r, r.Status
	}
	return r, nil
}

// delegate opens a file for reading until that gets a delegation, which it does once the backchannel is known to work.
func delegate(t *testing.T, c *nfsclient.Client, file nfsclient.Handle) wire.Stateid {
	t.Helper()
	args := wire.OpenArgs{ShareAccess: wire.OPEN4_SHARE_ACCESS_READ, Claim: wire.CLAIM_FH,
		Owner: wire.Owner{ClientID: c.ClientID(), Owner: []byte("o")}}
	for range 1000 {
		r, err := rawOn(t, c, file, nfsclient.RawOp{Op: wire.OP_OPEN, Args: &args})
		if err != nil {
			t.Fatal(err)
		}
		var res wire.OpenRes
		if err := r.Expect(wire.OP_OPEN, &res); err != nil {
			t.Fatal(err)
		}
		if res.Delegation.Type == wire.OPEN_DELEGATE_READ {
			return res.Delegation.Stateid
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("no delegation")
	return wire.Stateid{}
}
