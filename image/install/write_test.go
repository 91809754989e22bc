package install

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/nfseal/nfseal/image/gpt"
	"github.com/nfseal/nfseal/image/verity"
)

const mib = 1 << 20

// medium is a file with an EFI partition and a verified root, as make image and make iso have them.
func medium(t *testing.T) (*Medium, *os.File) {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "root")
	if err := os.WriteFile(image, bytes.Repeat([]byte("root"), 300*verity.BlockBytes/4), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/usr/sbin/veritysetup"); err != nil {
		t.Skip("needs veritysetup: runs on a machine with cryptsetup-bin")
	}
	out, err := exec.Command("/usr/sbin/veritysetup", "format", "--data-blocks=300", "--hash-offset=1228800", image, image).CombinedOutput()
	hash := regexp.MustCompile(`Root hash:\s+([0-9a-f]{64})`).FindSubmatch(out)
	if err != nil || hash == nil {
		t.Fatalf("%v: %s", err, out)
	}
	root, err := verity.ParseRoot(string(hash[1]) + ":300")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "medium"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	const size = 16 * mib
	table, err := gpt.New(gpt.Derive("medium"), size, 512)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		kind, id gpt.GUID
		content  []byte
	}{{gpt.TypeESP, gpt.Derive("esp"), bytes.Repeat([]byte("esp!"), mib)}, {gpt.TypeRoot, gpt.FromHash(root.Hash), content}} {
		added, err := table.Add(p.kind, p.id, "p", int64(len(p.content)))
		if err != nil {
			t.Fatal(err)
		}
		offset, _ := table.Range(added)
		if _, err := f.WriteAt(p.content, offset); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(size), table.Write(f)); err != nil {
		t.Fatal(err)
	}
	return &Medium{ReaderAt: f, SizeBytes: size, Root: root}, f
}

// disk is an empty one, whose file has holes.
func disk(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func quiet(int64, int64) {}

func TestWrite(t *testing.T) {
	m, _ := medium(t)
	d := disk(t, MinDiskBytes)
	if _, err := d.WriteAt([]byte("an old table"), MinDiskBytes-100); err != nil {
		t.Fatal(err)
	}
	var done, total int64
	sum, err := Write(m, d, MinDiskBytes, 512, func(a, b int64) { done, total = a, b })
	if err != nil {
		t.Fatal(err)
	}
	if done != total || total == 0 {
		t.Errorf("told of %d bytes of %d", done, total)
	}
	table, err := gpt.Read(d, MinDiskBytes, 512)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []gpt.GUID
	for _, p := range table.Partitions {
		kinds = append(kinds, p.Type)
	}
	if want := []gpt.GUID{gpt.TypeESP, gpt.TypeRoot, gpt.TypeState, gpt.TypeData, gpt.TypeVolume}; len(kinds) != len(want) || [5]gpt.GUID(kinds) != [5]gpt.GUID(want) {
		t.Errorf("%v", kinds)
	}
	root, ok := table.Find(gpt.FromHash(m.Root.Hash))
	if !ok {
		t.Fatal("the disk has no root that the kernel finds")
	}
	offset, size := table.Range(root)
	content := make([]byte, size)
	if _, err := d.ReadAt(content, offset); err != nil {
		t.Fatal(err)
	}
	if got := sha256.Sum256(content); hex.EncodeToString(got[:]) != sum {
		t.Errorf("%x is said to be %s", got, sum)
	}
	// An upgrade finds room for another system, and the EFI partition is as on the medium.
	if _, err := table.Place(gpt.TypeRoot, gpt.Derive("next"), "next", roomBytes); err != nil {
		t.Error(err)
	}
	first := make([]byte, 4)
	if _, err := d.ReadAt(first, mib); err != nil || string(first) != "esp!" {
		t.Errorf("%q, %v", first, err)
	}
}

func TestRefuses(t *testing.T) {
	m, f := medium(t)
	if _, err := Write(m, disk(t, MinDiskBytes), MinDiskBytes, 4096, quiet); err == nil {
		t.Error("a disk that can't be started from is taken")
	}
	if _, err := Write(m, disk(t, MinDiskBytes), MinDiskBytes-mib, 512, quiet); err == nil {
		t.Error("a disk without room is taken")
	}
	other := *m
	other.Root.Hash[0] ^= 1
	if _, err := Write(&other, disk(t, MinDiskBytes), MinDiskBytes, 512, quiet); !errors.Is(err, ErrMedium) {
		t.Errorf("another system: %v", err)
	}
	// A medium with a bad block: the disk gets no table, and can't be started.
	if _, err := f.WriteAt([]byte("bad"), 6*mib); err != nil {
		t.Fatal(err)
	}
	d := disk(t, MinDiskBytes)
	if _, err := Write(m, d, MinDiskBytes, 512, quiet); !errors.Is(err, verity.ErrCorrupted) {
		t.Errorf("a bad medium: %v", err)
	}
	if _, err := gpt.Read(d, MinDiskBytes, 512); !errors.Is(err, gpt.ErrNoTable) {
		t.Errorf("the disk: %v", err)
	}
}

// A disk that loses a write is found out.
func TestReadsBack(t *testing.T) {
	m, _ := medium(t)
	d := disk(t, MinDiskBytes)
	spoiled := false
	_, err := Write(m, d, MinDiskBytes, 512, func(done, total int64) {
		if !spoiled && done >= 2*mib { // what was written first is lost
			spoiled = true
			if _, err := d.WriteAt([]byte("lost"), mib); err != nil {
				t.Error(err)
			}
		}
	})
	if !errors.Is(err, ErrWritten) {
		t.Errorf("%v", err)
	}
}
