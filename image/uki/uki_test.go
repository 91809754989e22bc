package uki

import (
	"bytes"
	"debug/pe"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const stub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

func parts(t *testing.T) (Parts, map[string][]byte) {
	t.Helper()
	if _, err := os.Stat(stub); err != nil {
		t.Skip("needs systemd-boot-efi: runs where scripts/deps.sh image has run (make image)")
	}
	contents := map[string][]byte{
		".osrel": []byte("ID=nfseal\n"), ".cmdline": []byte("quiet"),
		".linux": bytes.Repeat([]byte("kernel"), 5000), ".initrd": bytes.Repeat([]byte("initrd"), 7000),
	}
	dir := t.TempDir()
	for name, content := range contents {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	return Parts{Stub: stub, OSRelease: in(".osrel"), Cmdline: in(".cmdline"), Kernel: in(".linux"), Initramfs: in(".initrd")}, contents
}

func TestSectionsHoldTheParts(t *testing.T) {
	p, contents := parts(t)
	out := filepath.Join(t.TempDir(), "out.efi")
	if err := Build(t.Context(), p, out); err != nil {
		t.Fatal(err)
	}
	f, err := pe.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.TimeDateStamp != 0 {
		t.Errorf("it has a time: %d", f.TimeDateStamp)
	}
	for name, want := range contents {
		got, err := f.Section(name).Data()
		if err != nil || !bytes.Equal(bytes.TrimRight(got, "\x00"), want) {
			t.Errorf("%s: %d bytes, not %d, %v", name, len(got), len(want), err)
		}
	}
	if end := f.OptionalHeader.(*pe.OptionalHeader64).SizeOfImage; end < f.Section(".initrd").VirtualAddress+f.Section(".initrd").VirtualSize {
		t.Errorf("the size of the image, %d, ends before its last section", end)
	}
}

func TestSamePartsGiveTheSameBytes(t *testing.T) {
	p, _ := parts(t)
	dir := t.TempDir()
	var images [2][]byte
	for i := range images {
		out := filepath.Join(dir, string(rune('a'+i)))
		if err := Build(t.Context(), p, out); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		images[i] = b
		time.Sleep(1100 * time.Millisecond) // time stamps are in seconds
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two images differ")
	}
}

func TestCheckRefuses(t *testing.T) {
	p, _ := parts(t)
	if err := Check(p.Stub); err == nil {
		t.Error("the bare stub is taken")
	}
	if err := Check(p.Kernel); err == nil {
		t.Error("no program at all is taken")
	}
}
