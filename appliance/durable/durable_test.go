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

// TestReplaceFile: the content of before is overwritten where it was, and not what is there now, wherever it was cut short.
func TestReplaceFile(t *testing.T) {
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reads := func(path, want string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", filepath.Base(path), got, err, want)
		}
	}
	for name, test := range map[string]struct {
		cut  func(path string) error // what was done before a crash
		want string
	}{
		"nothing":       {func(string) error { return nil }, "old"},
		"a second name": {func(path string) error { return os.Link(path, path+destroyedSuffix) }, "old"},
		"the new one": {func(path string) error {
			return errors.Join(os.Link(path, path+destroyedSuffix), WriteFile(path, []byte("new"), 0o600))
		}, "new"},
		"all": {func(path string) error { return ReplaceFile(path, []byte("new"), 0o600) }, "new"},
		"all of another": {func(path string) error {
			return errors.Join(os.Link(path, path+destroyedSuffix), ReplaceFile(path, []byte("new"), 0o600))
		}, "new"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			write(path, "old")
			old, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer old.Close()
			if err := errors.Join(test.cut(path), FinishDestroy(path)); err != nil {
				t.Fatal(err)
			}
			reads(path, test.want)
			if _, err := os.Stat(path + destroyedSuffix); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something is left: %v", err)
			}
			p := make([]byte, 3)
			if _, err := old.ReadAt(p, 0); err != nil || (string(p) == "old") != (test.want == "old") {
				t.Errorf("where it was there is %q, %v", p, err)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "f")
	write(path+destroyedSuffix, "of another time")
	if err := Destroy(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + destroyedSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
}
