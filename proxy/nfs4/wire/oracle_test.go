package wire

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/buildbarn/go-xdr/pkg/protocols/nfsv4"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// go-xdr's types are generated from the RFCs' own XDR files: an independent opinion on every byte.

// oracle is a type of go-xdr.
type oracle interface {
	ReadFrom(r *bytes.Reader) error
	WriteTo(w *bytes.Buffer) error
}

type oracleArgs struct{ nfsv4.Compound4args }

func (o *oracleArgs) ReadFrom(r *bytes.Reader) error {
	_, err := o.Compound4args.ReadFrom(r)
	return err
}

func (o *oracleArgs) WriteTo(w *bytes.Buffer) error {
	_, err := o.Compound4args.WriteTo(w)
	return err
}

type oracleRes struct{ nfsv4.Compound4res }

func (o *oracleRes) ReadFrom(r *bytes.Reader) error {
	_, err := o.Compound4res.ReadFrom(r)
	return err
}

func (o *oracleRes) WriteTo(w *bytes.Buffer) error {
	_, err := o.Compound4res.WriteTo(w)
	return err
}

// agree has the oracle read b to its end and write it again.
func agree(o oracle, b []byte) error {
	r := bytes.NewReader(b)
	if err := o.ReadFrom(r); err != nil {
		return fmt.Errorf("the oracle cannot read %x: %w", b, err)
	}
	var w bytes.Buffer
	if err := o.WriteTo(&w); err != nil {
		return err
	}
	if r.Len() != 0 || !bytes.Equal(w.Bytes(), b) {
		return fmt.Errorf("ours %x, the oracle's %x, %d bytes left", b, w.Bytes(), r.Len())
	}
	return nil
}

// compoundArgs is a COMPOUND of one operation.
func compoundArgs(t *testing.T, op Op, args codec) []byte {
	t.Helper()
	b := encode(t, &CompoundArgs{Tag: []byte("tag"), MinorVersion: 1, Ops: 1})
	b = append(b, 0, 0, 0, byte(op))
	if args != nil {
		b = append(b, encode(t, args)...)
	}
	return b
}

// compoundRes is the answer to it.
func compoundRes(t *testing.T, op Op, status Status, res codec) []byte {
	t.Helper()
	var w CompoundWriter
	e := xdr.NewEncoder(make([]byte, 0, 1<<16))
	w.Begin(&e, []byte("tag"))
	at := w.BeginOp(op)
	if res != nil {
		res.Encode(&e)
	}
	w.EndOp(at, status)
	w.End(status)
	if e.Err() != nil {
		t.Fatal(e.Err())
	}
	return e.Bytes()
}

func TestOracle(t *testing.T) {
	for _, s := range allSamples() {
		if s.op > OP_CLONE {
			continue // go-xdr has no extended attributes
		}
		args, res := s.args.list, s.res.list
		if s.args.make == nil {
			args = []codec{nil}
		}
		if s.res.make == nil {
			res = []codec{nil}
		}
		for i, a := range args {
			if err := agree(new(oracleArgs), compoundArgs(t, s.op, a)); err != nil {
				t.Errorf("%s %d: %v", s.op, i, err)
			}
		}
		for i, r := range res {
			if err := agree(new(oracleRes), compoundRes(t, s.op, NFS4_OK, r)); err != nil {
				t.Errorf("%s result %d: %v", s.op, i, err)
			}
		}
	}
}

// The results that have a body although they failed.
func TestOracleFailures(t *testing.T) {
	denied := &LockDenied{Offset: 1, Length: 2, Type: WRITE_LT, Owner: sampleOwner}
	for _, c := range []struct {
		op     Op
		status Status
		res    codec
	}{
		{OP_LOCK, NFS4ERR_DENIED, denied}, {OP_LOCKT, NFS4ERR_DENIED, denied},
		{OP_SETCLIENTID, NFS4ERR_CLID_INUSE, &ClientAddr{NetID: []byte("tcp"), Addr: []byte("127.0.0.1.8.1")}},
		{OP_COPY, NFS4ERR_OFFLOAD_NO_REQS, &CopyRequirements{Consecutive: true}}, {OP_COPY, NFS4ERR_NOTSUPP, nil},
		{OP_READ_PLUS, NFS4ERR_IO, nil}, {OP_SEEK, NFS4ERR_NXIO, nil},
		{OP_SETATTR, NFS4ERR_ATTRNOTSUPP, &SetAttrRes{}}, {OP_OPEN, NFS4ERR_NOENT, nil}, {OP_READ, NFS4ERR_IO, nil},
		{OP_SEQUENCE, NFS4ERR_BADSESSION, nil}, {OP_LOCK, NFS4ERR_GRACE, nil},
	} {
		if err := agree(new(oracleRes), compoundRes(t, c.op, c.status, c.res)); err != nil {
			t.Errorf("%s %s: %v", c.op, c.status, err)
		}
	}
	roundTrip(t, denied, func() codec { return new(LockDenied) })
}

// Every number of an operation and a status that go-xdr knows has the same name here, and none is ours
// alone.
func TestOracleNames(t *testing.T) {
	statuses := 0
	for n, name := range nfsv4.Nfsstat4_name {
		statuses++
		if got := Status(n).String(); got != name {
			t.Errorf("status %d is %s, the oracle's %s", n, got, name)
		}
	}
	for n := range statusNames {
		if _, ok := nfsv4.Nfsstat4_name[nfsv4.Nfsstat4(n)]; !ok && n < NFS4ERR_NOXATTR {
			t.Errorf("%s is ours alone", n)
		}
	}
	ops := 0
	for n, name := range nfsv4.NfsOpnum4_name {
		ops++
		if got := "OP_" + Op(n).String(); got != name {
			t.Errorf("operation %d is %s, the oracle's %s", n, got, name)
		}
	}
	if statuses < 100 || ops < 60 {
		t.Errorf("the oracle knows only %d statuses and %d operations", statuses, ops)
	}
}

// The numbers of attributes and flags, compared constant by constant.
func TestOracleNumbers(t *testing.T) {
	for _, c := range []struct {
		name         string
		ours, theirs uint64
	}{
		{"SUPPORTED_ATTRS", uint64(FATTR4_SUPPORTED_ATTRS), nfsv4.FATTR4_SUPPORTED_ATTRS},
		{"FSID", uint64(FATTR4_FSID), nfsv4.FATTR4_FSID},
		{"ACLSUPPORT", uint64(FATTR4_ACLSUPPORT), nfsv4.FATTR4_ACLSUPPORT},
		{"FILEHANDLE", uint64(FATTR4_FILEHANDLE), nfsv4.FATTR4_FILEHANDLE},
		{"FILEID", uint64(FATTR4_FILEID), nfsv4.FATTR4_FILEID},
		{"HOMOGENEOUS", uint64(FATTR4_HOMOGENEOUS), nfsv4.FATTR4_HOMOGENEOUS},
		{"MAXFILESIZE", uint64(FATTR4_MAXFILESIZE), nfsv4.FATTR4_MAXFILESIZE},
		{"MAXWRITE", uint64(FATTR4_MAXWRITE), nfsv4.FATTR4_MAXWRITE},
		{"MODE", uint64(FATTR4_MODE), nfsv4.FATTR4_MODE},
		{"NUMLINKS", uint64(FATTR4_NUMLINKS), nfsv4.FATTR4_NUMLINKS},
		{"OWNER_GROUP", uint64(FATTR4_OWNER_GROUP), nfsv4.FATTR4_OWNER_GROUP},
		{"RAWDEV", uint64(FATTR4_RAWDEV), nfsv4.FATTR4_RAWDEV},
		{"SPACE_USED", uint64(FATTR4_SPACE_USED), nfsv4.FATTR4_SPACE_USED},
		{"TIME_ACCESS_SET", uint64(FATTR4_TIME_ACCESS_SET), nfsv4.FATTR4_TIME_ACCESS_SET},
		{"TIME_DELTA", uint64(FATTR4_TIME_DELTA), nfsv4.FATTR4_TIME_DELTA},
		{"TIME_METADATA", uint64(FATTR4_TIME_METADATA), nfsv4.FATTR4_TIME_METADATA},
		{"TIME_MODIFY_SET", uint64(FATTR4_TIME_MODIFY_SET), nfsv4.FATTR4_TIME_MODIFY_SET},
		{"MOUNTED_ON_FILEID", uint64(FATTR4_MOUNTED_ON_FILEID), nfsv4.FATTR4_MOUNTED_ON_FILEID},
		{"LAYOUT_BLKSIZE", uint64(FATTR4_LAYOUT_BLKSIZE), nfsv4.FATTR4_LAYOUT_BLKSIZE},
		{"MODE_SET_MASKED", uint64(FATTR4_MODE_SET_MASKED), nfsv4.FATTR4_MODE_SET_MASKED},
		{"SUPPATTR_EXCLCREAT", uint64(FATTR4_SUPPATTR_EXCLCREAT), nfsv4.FATTR4_SUPPATTR_EXCLCREAT},
		{"FS_CHARSET_CAP", uint64(FATTR4_FS_CHARSET_CAP), nfsv4.FATTR4_FS_CHARSET_CAP},
		{"CLONE_BLKSIZE", uint64(FATTR4_CLONE_BLKSIZE), nfsv4.FATTR4_CLONE_BLKSIZE},
		{"CHANGE_ATTR_TYPE", uint64(FATTR4_CHANGE_ATTR_TYPE), nfsv4.FATTR4_CHANGE_ATTR_TYPE},
		{"SEC_LABEL", uint64(FATTR4_SEC_LABEL), nfsv4.FATTR4_SEC_LABEL},
		{"UPD_CONFIRMED_REC_A", EXCHGID4_FLAG_UPD_CONFIRMED_REC_A, nfsv4.EXCHGID4_FLAG_UPD_CONFIRMED_REC_A},
		{"USE_NON_PNFS", EXCHGID4_FLAG_USE_NON_PNFS, nfsv4.EXCHGID4_FLAG_USE_NON_PNFS},
		{"BIND_PRINC_STATEID", EXCHGID4_FLAG_BIND_PRINC_STATEID, nfsv4.EXCHGID4_FLAG_BIND_PRINC_STATEID},
		{"CONN_BACK_CHAN", CREATE_SESSION4_FLAG_CONN_BACK_CHAN, nfsv4.CREATE_SESSION4_FLAG_CONN_BACK_CHAN},
		{"RESTART_RECLAIM_NEEDED", SEQ4_STATUS_RESTART_RECLAIM_NEEDED, nfsv4.SEQ4_STATUS_RESTART_RECLAIM_NEEDED},
		{"CB_PATH_DOWN_SESSION", SEQ4_STATUS_CB_PATH_DOWN_SESSION, nfsv4.SEQ4_STATUS_CB_PATH_DOWN_SESSION},
		{"BACKCHANNEL_FAULT", SEQ4_STATUS_BACKCHANNEL_FAULT, nfsv4.SEQ4_STATUS_BACKCHANNEL_FAULT},
		{"ADMIN_STATE_REVOKED", SEQ4_STATUS_ADMIN_STATE_REVOKED, nfsv4.SEQ4_STATUS_ADMIN_STATE_REVOKED},
		{"ACCESS4_EXECUTE", ACCESS4_EXECUTE, nfsv4.ACCESS4_EXECUTE},
		{"ACCESS4_DELETE", ACCESS4_DELETE, nfsv4.ACCESS4_DELETE},
		{"WANT_NO_DELEG", OPEN4_SHARE_ACCESS_WANT_NO_DELEG, nfsv4.OPEN4_SHARE_ACCESS_WANT_NO_DELEG},
		{"WANT_CANCEL", OPEN4_SHARE_ACCESS_WANT_CANCEL, nfsv4.OPEN4_SHARE_ACCESS_WANT_CANCEL},
		{"RESULT_LOCKTYPE_POSIX", OPEN4_RESULT_LOCKTYPE_POSIX, nfsv4.OPEN4_RESULT_LOCKTYPE_POSIX},
		{"RESULT_MAY_NOTIFY_LOCK", OPEN4_RESULT_MAY_NOTIFY_LOCK, nfsv4.OPEN4_RESULT_MAY_NOTIFY_LOCK},
		{"RESULT_PRESERVE_UNLINKED", OPEN4_RESULT_PRESERVE_UNLINKED, nfsv4.OPEN4_RESULT_PRESERVE_UNLINKED},
		{"WND4_RESOURCE", WND4_RESOURCE, uint64(nfsv4.WND4_RESOURCE)},
		{"WND4_IS_DIR", WND4_IS_DIR, uint64(nfsv4.WND4_IS_DIR)},
		{"CLAIM_DELEG_PREV_FH", uint64(CLAIM_DELEG_PREV_FH), uint64(nfsv4.CLAIM_DELEG_PREV_FH)},
		{"EXCLUSIVE4_1", uint64(EXCLUSIVE4_1), uint64(nfsv4.EXCLUSIVE4_1)},
		{"NF4NAMEDATTR", uint64(NF4NAMEDATTR), uint64(nfsv4.NF4NAMEDATTR)},
		{"WRITEW_LT", uint64(WRITEW_LT), uint64(nfsv4.WRITEW_LT)},
		{"CONTENT_HOLE", uint64(NFS4_CONTENT_HOLE), uint64(nfsv4.NFS4_CONTENT_HOLE)},
		{"INIT_PROXIMITY", IO_ADVISE4_INIT_PROXIMITY, uint64(nfsv4.IO_ADVISE4_INIT_PROXIMITY)},
		{"ACE4_SYNCHRONIZE", ACE4_SYNCHRONIZE, nfsv4.ACE4_SYNCHRONIZE},
		{"ACE4_DELETE_CHILD", ACE4_DELETE_CHILD, nfsv4.ACE4_DELETE_CHILD},
		{"ACE4_WRITE_OWNER", ACE4_WRITE_OWNER, nfsv4.ACE4_WRITE_OWNER},
		{"ACE4_WRITE_NAMED_ATTRS", ACE4_WRITE_NAMED_ATTRS, nfsv4.ACE4_WRITE_NAMED_ATTRS},
		{"ACE4_IDENTIFIER_GROUP", ACE4_IDENTIFIER_GROUP, nfsv4.ACE4_IDENTIFIER_GROUP},
		{"ACL4_SUPPORT_DENY_ACL", ACL4_SUPPORT_DENY_ACL, nfsv4.ACL4_SUPPORT_DENY_ACL},
		{"FILE_SYNC4", uint64(FILE_SYNC4), uint64(nfsv4.FILE_SYNC4)},
	} {
		if c.ours != c.theirs {
			t.Errorf("%s is %d, the oracle's %d", c.name, c.ours, c.theirs)
		}
	}
}
