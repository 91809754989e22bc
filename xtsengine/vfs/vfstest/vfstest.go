package vfstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// Maker makes an empty file system, whose root directory belongs to uid 0 and has mode 0755, for one
// test, and sees to its end with t.Cleanup. now is its clock.
type Maker func(t *testing.T, now func() vfs.Time) vfs.FileSystem

// suiteTest is one part of the suite.
type suiteTest struct {
	name string
	run  func(*env)
}

// Run runs the suite.
func Run(t *testing.T, make Maker) {
	run(t, make, []suiteTest{
		{"Attributes", testAttributes}, {"SetAttr", testSetAttr}, {"SetAttrAccess", testSetAttrAccess},
		{"Truncate", testTruncate}, {"Stale", testStale},
		{"Lookup", testLookup}, {"LookupParent", testLookupParent}, {"BadNames", testBadNames},
		{"CreateKinds", testCreateKinds}, {"CreateModes", testCreateModes}, {"CreateAttributes", testCreateAttributes},
		{"CreateAccess", testCreateAccess}, {"Symlink", testSymlink},
		{"Link", testLink}, {"LinkLimit", testLinkLimit},
		{"Remove", testRemove}, {"RemoveAccess", testRemoveAccess}, {"Hold", testHold},
		{"Rename", testRename}, {"RenameOver", testRenameOver}, {"RenameLoop", testRenameLoop},
		{"RenameAccess", testRenameAccess},
		{"ReadDir", testReadDir}, {"ReadDirStable", testReadDirStable}, {"Cookies", testCookies},
		{"ReadWrite", testReadWrite}, {"Sparse", testSparse}, {"Edges", testEdges}, {"Limits", testLimits},
		{"WriteAccess", testWriteAccess}, {"SetID", testSetID}, {"Commit", testCommit},
		{"Clients", testClients}, {"Marks", testMarks}, {"NoMarks", testNoMarks}, {"MarkRanges", testMarkRanges},
		{"Cancelled", testCancelled}, {"Change", testChange},
		{"Concurrent", testConcurrent}, {"RenameRace", testRenameRace},
	})
}

// RunRanges runs the part of the suite about ranges of files, extended attributes and quotas.
func RunRanges(t *testing.T, make Maker) {
	run(t, make, []suiteTest{
		{"Seek", testSeek}, {"Allocate", testAllocate}, {"Deallocate", testDeallocate},
		{"Clone", testClone}, {"CloneErrors", testCloneErrors}, {"SparseRandom", testSparseRandom},
		{"Xattrs", testXattrs}, {"XattrErrors", testXattrErrors}, {"Metered", testMetered}, {"Quota", testQuota},
	})
}

func run(t *testing.T, make Maker, tests []suiteTest) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := &env{T: t, clock: vfs.Time{Sec: 1_700_000_000}}
			e.fs = make(t, e.now)
			test.run(e)
		})
	}
}

var ctx = context.Background()

// env is one test with its file system.
type env struct {
	*testing.T
	fs    vfs.FileSystem
	clock vfs.Time
}

func (e *env) now() vfs.Time { return e.clock }

// later moves the clock on.
func (e *env) later() { e.clock.Sec++ }

// ok fails the test at once on an error.
func (e *env) ok(err error, what string, args ...any) {
	e.Helper()
	if err != nil {
		e.Fatalf("%s: %v", fmt.Sprintf(what, args...), err)
	}
}

// want checks which error there is.
func (e *env) want(err, want error, what string, args ...any) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Errorf("%s: got %v, want %v", fmt.Sprintf(what, args...), err, want)
	}
}

func user(uid, gid uint32, groups ...uint32) *vfs.Cred {
	return &vfs.Cred{UID: uid, GID: gid, Groups: groups}
}

// attr returns the attributes of a file.
func (e *env) attr(id vfs.FileID) vfs.Attr {
	e.Helper()
	var a vfs.Attr
	e.ok(e.fs.GetAttr(ctx, id, &a), "GetAttr of %v", id)
	return a
}

// make makes a file of a kind with a mode, by cred.
func (e *env) make(cred *vfs.Cred, dir vfs.FileID, name string, kind vfs.Kind, mode uint32) (vfs.CreateResult, error) {
	req := vfs.CreateRequest{Kind: kind, Mode: vfs.Guarded, Attr: vfs.SetAttr{Mask: vfs.SetMode, Mode: mode}}
	if kind == vfs.Symlink {
		req.Target = "target"
	}
	var out vfs.CreateResult
	err := e.fs.Create(ctx, cred, dir, name, &req, &out)
	return out, err
}

// file makes a regular file of mode 0644 in the root directory.
func (e *env) file(name string) vfs.FileID {
	e.Helper()
	out, err := e.make(nil, e.fs.Root(), name, vfs.Regular, 0o644)
	e.ok(err, "create %q", name)
	return out.Attr.ID
}

// mkdir makes a directory of mode 0755.
func (e *env) mkdir(dir vfs.FileID, name string) vfs.FileID {
	e.Helper()
	out, err := e.make(nil, dir, name, vfs.Directory, 0o755)
	e.ok(err, "mkdir %q", name)
	return out.Attr.ID
}

// lookup returns the identity that a name stands for.
func (e *env) lookup(dir vfs.FileID, name string) (vfs.FileID, error) {
	var a vfs.Attr
	err := e.fs.Lookup(ctx, nil, dir, name, &a)
	return a.ID, err
}

// remove removes a name as the server itself.
func (e *env) remove(dir vfs.FileID, name string) error {
	var a vfs.Attr
	_, err := e.fs.Remove(ctx, nil, dir, name, &a)
	return err
}

// rename renames as cred.
func (e *env) rename(cred *vfs.Cred, from vfs.FileID, old string, to vfs.FileID, name string) error {
	var a vfs.Attr
	_, _, err := e.fs.Rename(ctx, cred, from, old, to, name, &a)
	return err
}

// set changes attributes as cred and returns them.
func (e *env) set(cred *vfs.Cred, id vfs.FileID, set vfs.SetAttr) (vfs.Attr, error) {
	var a vfs.Attr
	err := e.fs.SetAttr(ctx, cred, id, &set, &a)
	return a, err
}

// write writes as the server itself.
func (e *env) write(id vfs.FileID, offset uint64, p []byte, stable vfs.Stability) {
	e.Helper()
	got, err := e.fs.Write(ctx, nil, false, id, offset, p, stable)
	e.ok(err, "write of %d bytes at %d", len(p), offset)
	if got < stable {
		e.Fatalf("write with stability %d gave %d", stable, got)
	}
}

// read reads a range and checks the flags.
func (e *env) read(id vfs.FileID, offset uint64, length int) []byte {
	e.Helper()
	p := bytes.Repeat([]byte{0xee}, length)
	n, eof, err := e.fs.Read(ctx, nil, id, offset, p)
	e.ok(err, "read of %d bytes at %d", length, offset)
	size := e.attr(id).Size
	want := 0
	if offset < size {
		want = int(min(size-offset, uint64(length)))
	}
	if n != want {
		e.Fatalf("read of %d bytes at %d of %d gave %d", length, offset, size, n)
	}
	if wantEOF := offset+uint64(n) >= size; eof != wantEOF {
		e.Fatalf("read of %d bytes at %d of %d: end of file is %v", length, offset, size, eof)
	}
	compareLoan(e, e.fs, nil, id, offset, p, n, eof)
	return p[:n]
}

// compareLoan has a file system that can lend what was just read, n bytes of p, and compares.
func compareLoan(t testing.TB, fs vfs.FileSystem, cred *vfs.Cred, id vfs.FileID, offset uint64, p []byte, n int, eof bool) {
	t.Helper()
	lender, ok := fs.(vfs.Lender)
	if !ok {
		return
	}
	loan, end := lender.Lend(ctx, cred, id, offset, len(p))
	if loan == nil {
		return
	}
	defer loan.Return()
	if got := bytes.Join(loan.Views(), nil); !bytes.Equal(got, p[:n]) || end != eof {
		t.Errorf("%d bytes at %d are lent with an end %v, which differs from the %d that were read, with %v", len(got), offset, end, n, eof)
	}
}

// names lists a directory.
func (e *env) names(dir vfs.FileID) []string {
	e.Helper()
	var names []string
	eof, err := e.fs.ReadDir(ctx, nil, dir, 0, false, func(entry *vfs.DirEntry) bool {
		names = append(names, entry.Name)
		return true
	})
	e.ok(err, "ReadDir")
	if !eof {
		e.Fatal("ReadDir ended before the end of the directory")
	}
	slices.Sort(names)
	return names
}

// wantNames checks what a directory lists.
func (e *env) wantNames(dir vfs.FileID, want ...string) {
	e.Helper()
	slices.Sort(want)
	if got := e.names(dir); !slices.Equal(got, want) {
		e.Errorf("names are %q, want %q", got, want)
	}
}

// pattern fills a slice so that every place in a file differs.
func pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i) ^ byte(i>>8)*31 ^ byte(i>>16)*17 ^ seed | 1
	}
	return p
}
