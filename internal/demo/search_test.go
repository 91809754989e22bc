package demo

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nfseal/nfseal/internal/tree"
)

func needles(t *testing.T, all ...string) *Needles {
	t.Helper()
	var b [][]byte
	for _, s := range all {
		b = append(b, []byte(s))
	}
	n, err := NewNeedles(b)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A needle is found wherever it stands: at both ends, and across the search's own buffers.
func TestSearchFindsEverywhere(t *testing.T) {
	const needle = "a needle in the hay"
	path := filepath.Join(t.TempDir(), "hay")
	n := needles(t, needle, "another needle altogether", "a needle")
	size := 2*searchBufferBytes + 1000
	places := []int{0, 100, searchBufferBytes - 30, searchBufferBytes - 10, searchBufferBytes, 2*searchBufferBytes - 1, size - len(needle)}
	for _, at := range places {
		hay := bytes.Repeat([]byte{'h'}, size)
		copy(hay[at:], needle)
		if err := os.WriteFile(path, hay, 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := n.SearchFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if found.Bytes != int64(size) || len(found.Hits) != 2 || found.Hits[needle] != 1 || found.Hits["a needle"] != 1 {
			t.Fatalf("at %d: got %+v", at, found)
		}
	}
}

func TestSearchFindsNothingInNoise(t *testing.T) {
	path := filepath.Join(t.TempDir(), "noise")
	noise := make([]byte, 3<<20)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, noise, 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := needles(t, "12345678", "abcdefgh").SearchFile(path)
	if err != nil || len(found.Hits) != 0 || found.Bytes != 3<<20 {
		t.Fatalf("got %+v, %v", found, err)
	}
}

func TestSearchDirLooksAtNamesToo(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a-telling-name"), []byte("and telling contents"), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := needles(t, "a-telling-name", "telling contents").SearchDir(dir)
	if err != nil || len(found.Hits) != 2 {
		t.Fatalf("got %+v, %v", found, err)
	}
}

func TestShortNeedleIsRefused(t *testing.T) {
	if _, err := NewNeedles([][]byte{[]byte("short")}); err == nil {
		t.Fatal("a needle of five bytes was taken")
	}
}

// What is picked from a tree is found in it: the positive control of the demo.
func TestPickedIsFound(t *testing.T) {
	dir := t.TempDir()
	for i := range 50 {
		text := make([]byte, 5000)
		if _, err := rand.Read(text); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("a-file-with-a-name-%d", i)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := tree.Scan(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	names, contents, err := Pick(dir, entries, 7)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 50 || len(contents) != 50 {
		t.Fatalf("picked %d names and %d pieces", len(names), len(contents))
	}
	n, err := NewNeedles(append(names, contents...))
	if err != nil {
		t.Fatal(err)
	}
	found, err := n.SearchDir(dir)
	if err != nil || len(found.Hits) != n.Len() {
		t.Fatalf("found %d of %d, %v", len(found.Hits), n.Len(), err)
	}
}
