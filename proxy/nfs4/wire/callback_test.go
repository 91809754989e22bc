package wire

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/buildbarn/go-xdr/pkg/protocols/nfsv4"
)

type oracleCBArgs struct{ nfsv4.CbCompound4args }

func (o *oracleCBArgs) ReadFrom(r *bytes.Reader) error {
	_, err := o.CbCompound4args.ReadFrom(r)
	return err
}

func (o *oracleCBArgs) WriteTo(w *bytes.Buffer) error {
	_, err := o.CbCompound4args.WriteTo(w)
	return err
}

type oracleCBRes struct{ nfsv4.CbCompound4res }

func (o *oracleCBRes) ReadFrom(r *bytes.Reader) error {
	_, err := o.CbCompound4res.ReadFrom(r)
	return err
}

func (o *oracleCBRes) WriteTo(w *bytes.Buffer) error {
	_, err := o.CbCompound4res.WriteTo(w)
	return err
}

// cbSample has a callback's arguments and results in all their shapes.
type cbSample struct {
	op        CBOp
	args, res samples
}

func cbSamples() []cbSample {
	seq := SequenceArgs{SessionID: sampleSession, SequenceID: 1, SlotID: 2, HighestSlot: 3, CacheThis: true}
	refer := ReferringCall{Session: sampleSession, Sequence: 7, Slot: 8}
	return []cbSample{
		{OP_CB_SEQUENCE,
			of(CBSequenceArgs{SequenceArgs: seq}, CBSequenceArgs{SequenceArgs: seq, HasReferring: true, Referring: refer}),
			of(CBSequenceRes{SessionID: sampleSession, SequenceID: 1, SlotID: 2, HighestSlot: 3, TargetHighestSlot: 4})},
		{OP_CB_RECALL, of(CBRecallArgs{Stateid: sampleStateid, Truncate: true, Handle: []byte("handle")}), none},
		{OP_CB_RECALL_ANY, of(CBRecallAnyArgs{Keep: 5, Types: BitmapOf(RCA4_TYPE_MASK_RDATA_DLG, RCA4_TYPE_MASK_WDATA_DLG)}), none},
		{OP_CB_GETATTR, of(CBGetAttrArgs{Handle: []byte("handle"), Request: BitmapOf(FATTR4_SIZE)}),
			of(CBGetAttrRes{Attrs: sampleAttrs})},
		{OP_CB_RECALL_SLOT, of(CBRecallSlotArgs{TargetHighestSlot: 7}), none},
		{OP_CB_NOTIFY_LOCK, of(CBNotifyLockArgs{Handle: []byte("handle"), Owner: sampleOwner}), none},
	}
}

func TestCallbacks(t *testing.T) {
	for _, s := range cbSamples() {
		if "OP_"+s.op.String() != nfsv4.NfsCbOpnum4_name[nfsv4.NfsCbOpnum4(s.op)] {
			t.Errorf("operation %d is %s", s.op, s.op)
		}
		for i, a := range s.args.list {
			t.Run(fmt.Sprintf("%s %d", s.op, i), func(t *testing.T) {
				roundTrip(t, a, s.args.make)
				b := encode(t, &CBCompoundArgs{Tag: []byte("tag"), MinorVersion: 1, CallbackIdent: 4, Ops: 1})
				b = append(b, 0, 0, 0, byte(s.op))
				if err := agree(new(oracleCBArgs), append(b, encode(t, a)...)); err != nil {
					t.Error(err)
				}
			})
		}
		for i, r := range append(s.res.list, nil)[:max(len(s.res.list), 1)] {
			t.Run(fmt.Sprintf("%s result %d", s.op, i), func(t *testing.T) {
				b := encode(t, &CBCompoundRes{Tag: []byte("tag"), Ops: 1})
				b = append(b, 0, 0, 0, byte(s.op), 0, 0, 0, 0)
				if r != nil {
					roundTrip(t, r, s.res.make)
					b = append(b, encode(t, r)...)
				}
				if err := agree(new(oracleCBRes), b); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// CB_OFFLOAD is of minor version 2, which the oracle does not know: bytes by hand after RFC 7862 §16.1.1.
func TestCallbackOffload(t *testing.T) {
	done := &CBOffloadArgs{Handle: []byte("hand"), Stateid: sampleStateid, Bytes: 7, Committed: FILE_SYNC4, Verifier: sampleVerifier}
	failed := &CBOffloadArgs{Handle: []byte("hand"), Stateid: sampleStateid, Status: NFS4ERR_NOSPC, Bytes: 7}
	head := append([]byte{0, 0, 0, 4, 'h', 'a', 'n', 'd'}, encode(t, &sampleStateid)...)
	for _, c := range []struct {
		args *CBOffloadArgs
		tail []byte
	}{
		{done, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, 8, 7, 6, 5, 4, 3, 2, 1}},
		{failed, []byte{0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 7}},
	} {
		roundTrip(t, c.args, func() codec { return new(CBOffloadArgs) })
		if got, want := encode(t, c.args), append(bytes.Clone(head), c.tail...); !bytes.Equal(got, want) {
			t.Errorf("got %x, want %x", got, want)
		}
	}
}

// FuzzCallback decodes the arguments and the results of every callback from arbitrary bytes.
func FuzzCallback(f *testing.F) {
	all := cbSamples()
	for i, s := range all {
		for _, c := range s.args.list {
			f.Add(uint8(i), false, encode(f, c))
		}
		for _, c := range s.res.list {
			f.Add(uint8(i), true, encode(f, c))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, results bool, data []byte) {
		s := all[int(which)%len(all)]
		kind := s.args
		if results {
			kind = s.res
		}
		if kind.make != nil {
			stable(t, kind.make, data)
		}
	})
}
