package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBox reads a box as Vagrant does.
func TestBox(t *testing.T) {
	dir := t.TempDir()
	raw, qcow2 := filepath.Join(dir, "raw"), filepath.Join(dir, "qcow2")
	err := errors.Join(os.WriteFile(raw, nil, 0o600), os.Truncate(raw, 1<<30+1), os.WriteFile(qcow2, []byte("a disk"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	made := time.Unix(1700000000, 0)
	var boxes [2]bytes.Buffer
	for i := range boxes {
		if err := writeBox(&boxes[i], made, raw, qcow2, "../vagrant/box/Vagrantfile"); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(boxes[0].Bytes(), boxes[1].Bytes()) {
		t.Error("the second box has other bytes")
	}
	z, err := gzip.NewReader(&boxes[0])
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil || !h.ModTime.Equal(made) {
			t.Errorf("%s of %v: %v", h.Name, h.ModTime, err)
		}
		members[h.Name] = string(text)
	}
	var metadata map[string]any
	if err := json.Unmarshal([]byte(members["metadata.json"]), &metadata); err != nil || metadata["provider"] != "libvirt" ||
		metadata["format"] != "qcow2" || metadata["virtual_size"] != 2.0 {
		t.Errorf("%v, %v", metadata, err)
	}
	if members["box.img"] != "a disk" || !strings.Contains(members["Vagrantfile"], "machine.loader") || len(members) != 3 {
		t.Errorf("%q", members)
	}
	if err := writeBox(io.Discard, made, filepath.Join(dir, "none"), qcow2, "../vagrant/box/Vagrantfile"); err == nil || !strings.Contains(err.Error(), "make image first") {
		t.Errorf("%v", err)
	}
}

// TestFormats makes both of an image, and lists them with their hashes.
func TestFormats(t *testing.T) {
	b := &builder{ctx: t.Context(), out: t.TempDir(), made: time.Unix(1700000000, 0), began: time.Now()}
	if err := b.vmdk(); err == nil || !strings.Contains(err.Error(), "make image first") {
		t.Errorf("%v", err)
	}
	disk := bytes.Repeat([]byte("nfseal! "), 1<<17)
	err := errors.Join(os.WriteFile(filepath.Join(b.out, rawName), disk, 0o600), os.WriteFile(filepath.Join(b.out, qcow2Name), disk, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("../..") // where make runs it
	if err := errors.Join(b.vmdk(), b.box()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(b.out, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		names = append(names, name)
		if got, err := hashFile(filepath.Join(b.out, name)); err != nil || got != sum {
			t.Errorf("%s has %s, not %s, %v", name, got, sum, err)
		}
	}
	if got := strings.Join(names, " "); got != "nfseal.box nfseal.qcow2 nfseal.raw nfseal.vmdk" {
		t.Errorf("%s", got)
	}
}
