package verity

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const salt = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// formatted is a partition in a file that veritysetup made of some blocks, and its root.
func formatted(t testing.TB, blocks int) (string, Root) {
	t.Helper()
	veritysetup, err := exec.LookPath("/usr/sbin/veritysetup")
	if err != nil {
		t.Skip("needs veritysetup: runs where scripts/deps.sh image has run (make image)")
	}
	path := filepath.Join(t.TempDir(), "root")
	if err := os.WriteFile(path, bytes.Repeat([]byte("nfseal! "), blocks*BlockBytes/8), 0o600); err != nil {
		t.Fatal(err)
	}
	offset := blocks * BlockBytes
	out, err := exec.Command(veritysetup, "format", "--salt="+salt, "--hash-offset="+strconv.Itoa(offset), "--data-blocks="+strconv.Itoa(blocks), path, path).Output()
	if err != nil {
		t.Fatal(err)
	}
	hash := regexp.MustCompile(`Root hash:\s+([0-9a-f]{64})`).FindSubmatch(out)
	if hash == nil {
		t.Fatalf("veritysetup says no root hash: %s", out)
	}
	root, err := ParseRoot(string(hash[1]) + ":" + strconv.Itoa(blocks))
	if err != nil {
		t.Fatal(err)
	}
	return path, root
}

func TestReadsWhatVeritysetupWrites(t *testing.T) {
	path, root := formatted(t, 300)
	s, err := superblockOf(path, root)
	if err != nil || s.DataBlocks != 300 || hex.EncodeToString(s.Salt) != salt {
		t.Errorf("%+v, %v", s, err)
	}
	root.DataBlocks--
	if _, err := superblockOf(path, root); !errors.Is(err, ErrForeign) {
		t.Errorf("a block too early: %v", err)
	}
}

func valid() []byte {
	b := make([]byte, SuperblockBytes)
	copy(b, "verity\x00\x00")
	le := binary.LittleEndian
	le.PutUint32(b[8:], 1)
	le.PutUint32(b[12:], 1)
	copy(b[32:], "sha256")
	le.PutUint32(b[64:], BlockBytes)
	le.PutUint32(b[68:], BlockBytes)
	le.PutUint64(b[72:], 300)
	le.PutUint16(b[80:], 32)
	return b
}

func TestRefusesOtherTrees(t *testing.T) {
	if _, err := ParseSuperblock(valid()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"short":       func(b []byte) []byte { return b[:100] },
		"magic":       func(b []byte) []byte { b[0]++; return b },
		"version":     func(b []byte) []byte { b[8]++; return b },
		"type":        func(b []byte) []byte { b[12] = 0; return b },
		"hash":        func(b []byte) []byte { copy(b[32:], "md5\x00"); return b },
		"block size":  func(b []byte) []byte { b[65] = 2; return b },
		"hash blocks": func(b []byte) []byte { b[69] = 2; return b },
		"no salt":     func(b []byte) []byte { b[80] = 0; return b },
		"long salt":   func(b []byte) []byte { b[81] = 2; return b },
		"no data":     func(b []byte) []byte { clear(b[72:80]); return b },
		"much data":   func(b []byte) []byte { b[79] = 1; return b },
	} {
		if _, err := ParseSuperblock(change(valid())); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRootText(t *testing.T) {
	hash := strings.Repeat("0af1", 16)
	r, err := ParseRoot(hash + ":12345")
	if err != nil || r.DataBlocks != 12345 || r.String() != hash+":12345" {
		t.Errorf("%s, %v", r, err)
	}
	for _, bad := range []string{"", hash, hash + ":", hash + ":0", hash + ":-1", hash + ":1x", hash + ":01", hash[1:] + ":1", "x" + hash[1:] + ":1", hash + ":9999999999999999"} {
		if _, err := ParseRoot(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestTable(t *testing.T) {
	r, err := ParseRoot(strings.Repeat("ab", 32) + ":300")
	if err != nil {
		t.Fatal(err)
	}
	parameters := r.table("/dev/vda2", Superblock{DataBlocks: 300, Salt: []byte{1, 2}})
	if want := "1 /dev/vda2 /dev/vda2 4096 4096 300 301 sha256 " + strings.Repeat("ab", 32) + " 0102 1 panic_on_corruption"; parameters != want {
		t.Errorf("%s\nnot %s", parameters, want)
	}
	b := line("verity", r.DataBlocks*8, parameters)
	if len(b)%8 != 0 || binary.LittleEndian.Uint64(b[8:]) != 2400 || !bytes.HasPrefix(b[24:], []byte("verity\x00")) || !bytes.HasSuffix(bytes.TrimRight(b, "\x00"), []byte(parameters)) {
		t.Errorf("%q", b)
	}
}

func FuzzParseSuperblock(f *testing.F) {
	f.Add(valid())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSuperblock(b); err == nil && (s.DataBlocks == 0 || len(s.Salt) == 0 || len(s.Salt) > 256) {
			t.Errorf("%+v", s)
		}
	})
}
