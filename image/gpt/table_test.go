package gpt

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestGUIDText(t *testing.T) {
	const text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	g, err := ParseGUID(text)
	if err != nil || g.String() != text {
		t.Errorf("%s becomes %s, %v", text, g, err)
	}
	if g[0] != 0x28 || g[4] != 0x1f || g[8] != 0xba {
		t.Errorf("bytes of the table: %x", g[:])
	}
	for _, bad := range []string{"", "c12a7328", strings.ReplaceAll(text, "-", ""), text + "0", strings.Replace(text, "c", "x", 1)} {
		if _, err := ParseGUID(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	var hash [32]byte
	for i := range hash {
		hash[i] = byte(i)
	}
	if got := FromHash(hash).String(); got != "00010203-0405-0607-0809-0a0b0c0d0e0f" {
		t.Error(got)
	}
	if Derive("a", "b") == Derive("ab") || Derive("a").String() != "ca978112-ca1b-8dca-bac2-31b39a23dc4d" {
		t.Error("derived GUIDs are not told apart by their words alone", Derive("a"))
	}
}

// disk is a disk in a file with two partitions, and its table.
func disk(t *testing.T, sizeBytes int64, sectorBytes int) (string, *Table) {
	t.Helper()
	table, err := New(Derive("disk"), sizeBytes, sectorBytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Add(TypeESP, Derive("esp"), "esp", 3<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Add(TypeData, Derive("data"), "nfseal-data", 0); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.Truncate(sizeBytes), table.Write(f), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path, table
}

func TestReadsWhatItWrote(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		path, want := disk(t, 16<<20, sector)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Read(bytes.NewReader(raw), int64(len(raw)), sector)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("blocks of %d: %+v, %v", sector, got, err)
		}
		clear(raw[:sector*34]) // the table at the end is left
		if got, err = Read(bytes.NewReader(raw), int64(len(raw)), sector); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("from the end: %+v, %v", got, err)
		}
	}
}

func TestPartitionsAreAlignedAndFit(t *testing.T) {
	table, err := New(GUID{}, 16<<20, 512)
	if err != nil {
		t.Fatal(err)
	}
	first, err := table.Add(TypeESP, Derive("1"), "one", 1)
	if offset, size := table.Range(first); err != nil || offset != 1<<20 || size != 1<<20 {
		t.Errorf("at %d, %d bytes, %v", offset, size, err)
	}
	if _, err := table.Add(TypeESP, Derive("2"), "two", 15<<20); err == nil {
		t.Error("a partition that does not fit is taken")
	}
	if _, err := table.Add(TypeESP, Derive("2"), strings.Repeat("x", 37), 0); err == nil {
		t.Error("a name that does not fit is taken")
	}
	rest, err := table.Add(TypeESP, Derive("2"), "rest", 0)
	if offset, size := table.Range(rest); err != nil || offset != 2<<20 || size != 13<<20 {
		t.Errorf("at %d, %d bytes, %v", offset, size, err)
	}
	if p, ok := table.Find(Derive("2")); !ok || p.Name != "rest" {
		t.Errorf("found %+v", p)
	}
}

func TestRefusesDamage(t *testing.T) {
	path, _ := disk(t, 16<<20, 512)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := len(whole) - 512
	for name, change := range map[string]func(b []byte){
		"headers":     func(b []byte) { b[512+40]++; b[last+40]++ },
		"entries":     func(b []byte) { b[1024+3]++; b[last-128*128+3]++ },
		"second only": func(b []byte) { clear(b[512:1024]); b[last+57]++ },
	} {
		b := bytes.Clone(whole)
		change(b)
		if _, err := Read(bytes.NewReader(b), int64(len(b)), 512); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Read(bytes.NewReader(make([]byte, 1<<20)), 1<<20, 512); !errors.Is(err, ErrNoTable) {
		t.Errorf("zeros: %v", err)
	}
}

// The tools of others read the same.
func TestFdiskAgrees(t *testing.T) {
	sfdisk, err := exec.LookPath("/usr/sbin/sfdisk")
	if err != nil {
		t.Skip("needs sfdisk: runs where scripts/deps.sh image has run (make image)")
	}
	path, table := disk(t, 64<<20, 512)
	if out, err := exec.Command(sfdisk, "--verify", path).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("No errors detected")) {
		t.Errorf("%v: %s", err, out)
	}
	out, err := exec.Command(sfdisk, "--dump", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range table.Partitions {
		for _, want := range []string{p.ID.String(), p.Type.String(), `name="` + p.Name + `"`} {
			if !strings.Contains(strings.ToLower(string(out)), want) {
				t.Errorf("%s is not in\n%s", want, out)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	table, err := New(Derive("disk"), 4<<20, 512)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := table.Add(TypeRoot, Derive("root"), "root", 0); err != nil {
		f.Fatal(err)
	}
	raw := make(sink, 4<<20)
	if err := table.Write(raw); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(raw[:40*512]))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Read(bytes.NewReader(b), int64(len(b)), 512)
		if err != nil {
			return
		}
		for _, p := range got.Partitions {
			if offset, size := got.Range(p); offset < 0 || size <= 0 || offset+size > int64(len(b)) {
				t.Errorf("partition %d is at %d, %d bytes, of %d", p.Number, offset, size, len(b))
			}
		}
	})
}

// sink is a disk in memory.
type sink []byte

func (s sink) WriteAt(p []byte, offset int64) (int, error) { return copy(s[offset:], p), nil }
