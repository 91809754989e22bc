package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteFileReplacesWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path+TempSuffix, []byte("left by a crash"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"first and long", "second"} {
		if err := WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadFile(path, 100)
		if err != nil || string(got) != content {
			t.Fatalf("read %q, %v; want %q", got, err, content)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if _, err := os.Stat(path + TempSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("temporary file left: %v", err)
	}
}

func TestCreateFileKeepsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := CreateFile(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(path, []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second create: %v; want fs.ErrExist", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "one" {
		t.Fatalf("content is %q", got)
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Fatalf("left behind: %v", names)
	}
}

func TestReadFileLimits(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, make([]byte, 11), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path, 10); err == nil {
		t.Error("a file over the limit was read")
	}
	if got, err := ReadFile(path, 11); err != nil || len(got) != 11 {
		t.Errorf("a file at the limit: %d bytes, %v", len(got), err)
	}
	if _, err := ReadFile(dir, 10); err == nil {
		t.Error("a directory was read as a file")
	}
}

func TestDestroyOverwritesBeforeRemoving(t *testing.T) {
	dir := t.TempDir()
	path, witness := filepath.Join(dir, "secret"), filepath.Join(dir, "witness")
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, witness); err != nil { // sees what the device is left with
		t.Fatal(err)
	}
	if err := Destroy(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the name is still there: %v", err)
	}
	if got, _ := os.ReadFile(witness); string(got) != "\x00\x00\x00\x00\x00\x00" {
		t.Errorf("the content is still there: %q", got)
	}
	if err := Destroy(path); err != nil {
		t.Errorf("destroying what is gone: %v", err)
	}
}

func TestMakeDir(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		if err := MakeDir(filepath.Join(dir, "d"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MakeDir(file, 0o700); err == nil {
		t.Error("a file was taken for a directory")
	}
}
