package filestore

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/cryptfs"
	"github.com/nfseal/nfseal/xtsengine/keyring"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// TestRefused checks what Open refuses, in words, and that it writes nothing then.
func TestRefused(t *testing.T) {
	newer := encodeFormat(testID, formatVersion)
	be.PutUint32(newer[8:], intentFormat+1)
	damagedFormat := encodeFormat(testID, formatVersion)
	damagedFormat[20] ^= 1
	older := encodeFormat(testID, formatVersion)
	be.PutUint32(older[8:], 1)
	be.PutUint32(older[28:], crc32.Checksum(older[:28], castagnoli))
	zero := encodeFormat(testID, formatVersion)
	be.PutUint32(zero[8:], 0)
	for _, c := range []struct {
		name   string
		format []byte // nil: no file
		want   error
		words  string
	}{
		{"newer", newer, ErrNewerFormat, fmt.Sprint("version ", intentFormat+1)},
		{"newer and longer", append(newer, "more"...), ErrNewerFormat, fmt.Sprint("version ", intentFormat+1)},
		{"of version 1", older, ErrOlderFormat, "version 1 has no tags"},
		{"none", nil, ErrForeign, "no file store"},
		{"something else", []byte("hello"), ErrForeign, "no file store"},
		{"damaged", damagedFormat, vfs.ErrCorrupt, "format file"},
		{"cut", encodeFormat(testID, formatVersion)[:20], vfs.ErrCorrupt, "format file"},
		{"very short", encodeFormat(testID, formatVersion)[:9], vfs.ErrCorrupt, "format file"},
		{"version 0", zero, vfs.ErrCorrupt, "format file"},
		{"another's", encodeFormat(volume.SpaceID{9}, formatVersion), ErrWrongSpace, "different file systems"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			r := newRigOn(t, memdev.New(32<<20), pebblevfs.Default, func(o *Options) { o.MetaDir = dir })
			r.file("f")
			r.close()
			name := filepath.Join(dir, formatName)
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
			if c.format != nil {
				if err := os.WriteFile(name, c.format, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := snapshot(t, dir)
			check := c.want
			if check == ErrForeign || check == ErrWrongSpace {
				check = nil
			}
			if err := CheckFormat(pebblevfs.Default, dir); !errors.Is(err, check) {
				t.Errorf("CheckFormat: %v, want %v", err, check)
			}
			err := r.tryOpen()
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("open: %v, want %v", err, c.want)
			}
			if after := snapshot(t, dir); after != before {
				t.Errorf("something was written:\n%s\nbefore:\n%s", after, before)
			}
			r.drop()
		})
	}
}

// TestRefusedPebble does the same with the format of Pebble's files, which Pebble would open, or
// refuse after it has written something.
func TestRefusedPebble(t *testing.T) {
	for _, c := range []struct {
		marker string // the file that says the version; "": none
		want   error
	}{
		{"marker.format-version.000099.099", ErrNewerFormat},
		{fmt.Sprintf("marker.format-version.000099.%03d", pebbleFormat+1), ErrNewerFormat},
		{"marker.format-version.000099.xyz", vfs.ErrCorrupt},
		{"", vfs.ErrCorrupt},
	} {
		dir := t.TempDir()
		r := newRigOn(t, memdev.New(32<<20), pebblevfs.Default, func(o *Options) { o.MetaDir = dir })
		r.file("f")
		r.close()
		if err := CheckFormat(pebblevfs.Default, dir); err != nil {
			t.Errorf("CheckFormat of a sound store: %v", err)
		}
		markers, err := filepath.Glob(filepath.Join(dir, storeName, "marker.format-version.*"))
		if err != nil || len(markers) != 1 {
			t.Fatalf("markers %q, %v", markers, err)
		}
		if err := os.Remove(markers[0]); err != nil {
			t.Fatal(err)
		}
		if c.marker != "" {
			if err := os.WriteFile(filepath.Join(dir, storeName, c.marker), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := snapshot(t, dir)
		if err := r.tryOpen(); !errors.Is(err, c.want) {
			t.Errorf("%q: %v, want %v", c.marker, err, c.want)
		}
		if err := CheckFormat(pebblevfs.Default, dir); !errors.Is(err, c.want) {
			t.Errorf("%q: CheckFormat: %v, want %v", c.marker, err, c.want)
		}
		if after := snapshot(t, dir); after != before {
			t.Errorf("something was written:\n%s\nbefore:\n%s", after, before)
		}
		r.drop()
	}
}

// snapshot lists a directory with times, sizes and content.
func snapshot(t *testing.T, dir string) string {
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&out, "%s %d %x\n", path, info.ModTime().UnixNano(), sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestCreate checks that Create does not replace a store, and does replace what an interrupted one
// left.
func TestCreate(t *testing.T) {
	meta := pebblevfs.NewMem()
	o := Options{ID: testID, Meta: meta, MetaDir: "a/b"}
	if err := createStore(func() *Options { o := o; o.EnsureDefaults(); return &o }()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readFormat(meta, "a/b"); !errors.Is(err, ErrForeign) {
		t.Fatalf("half a store: %v", err)
	}
	if err := Create(bg, o); err != nil {
		t.Fatal(err)
	}
	if err := Create(bg, o); !errors.Is(err, ErrExists) {
		t.Errorf("create over a store: %v", err)
	}
	o.ID = volume.SpaceID{4}
	if err := Create(bg, o); !errors.Is(err, ErrExists) {
		t.Errorf("create over another's store: %v", err)
	}
}

// TestOptions checks what is refused.
func TestOptions(t *testing.T) {
	good := Options{ID: testID, Meta: pebblevfs.NewMem(), MetaDir: "m"}
	for name, spoil := range map[string]func(*Options){
		"no meta":        func(o *Options) { o.Meta = nil },
		"no directory":   func(o *Options) { o.MetaDir = "" },
		"no id":          func(o *Options) { o.ID = volume.SpaceID{} },
		"mode":           func(o *Options) { o.RootMode = 0o10000 },
		"cache":          func(o *Options) { o.CacheBytes = 100 },
		"inodes":         func(o *Options) { o.CachedInodes = 1 },
		"dirty":          func(o *Options) { o.DirtyBytes = -1 },
		"age":            func(o *Options) { o.JournalAge = -time.Second },
		"no extents":     func(o *Options) { o.CachedExtents = 1 },
		"huge mem table": func(o *Options) { o.MemTableBytes = 1 << 40 },
	} {
		o := good
		spoil(&o)
		if err := Create(bg, o); err == nil {
			t.Errorf("%s: created", name)
		}
		if s, err := Open(bg, o); err == nil {
			t.Errorf("%s: opened %v", name, s)
		}
	}
	r := newRig(t, 32<<20, nil)
	for name, spoil := range map[string]func(*Options){
		"no space": func(o *Options) { o.Space = nil },
		"no epoch": func(o *Options) { o.Epoch = 0 },
		"no unit":  func(o *Options) { o.UnitUUID = [16]byte{} },
		"other id": func(o *Options) { o.ID = volume.SpaceID{8} },
	} {
		o := r.opts
		spoil(&o)
		if s, err := Open(bg, o); err == nil {
			t.Errorf("%s: opened %v", name, s)
		}
	}
}

// TestEncrypted writes names and content through cryptfs and looks for them in what is stored.
func TestEncrypted(t *testing.T) {
	key, err := keyring.NewDataKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	base := pebblevfs.NewMem()
	meta, err := cryptfs.New(base, key)
	if err != nil {
		t.Fatal(err)
	}
	dev := memdev.New(32 << 20)
	r := newRigOn(t, dev, meta, nil)
	secret := []byte("a secret that stands nowhere else, in names and content")
	var out vfs.CreateResult
	req := vfs.CreateRequest{Kind: vfs.Symlink, Mode: vfs.Guarded, Target: string(secret)}
	if err := r.Create(bg, nil, r.Root(), "link", &req, &out); err != nil {
		t.Fatal(err)
	}
	id := r.file(string(secret))
	r.write(id, 0, bytes.Repeat(secret, 5000), vfs.FileSync)
	r.write(r.file("small"), 0, secret, vfs.FileSync)
	r.write(r.file("journal"), 0, bytes.Repeat(secret, 100), vfs.FileSync)
	r.reopen()
	r.write(r.file("again"), 0, secret, vfs.FileSync)
	if dev.Contains(secret) {
		t.Error("the secret is on the volume")
	}
	files := 0
	for _, dir := range []string{"meta", "meta/db"} {
		names, err := base.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			path := base.PathJoin(dir, name)
			if info, err := base.Stat(path); err != nil || info.IsDir() {
				continue
			}
			content, err := base.UnsafeGetFileDataBuffer(path)
			if err != nil {
				t.Fatal(err)
			}
			files++
			if bytes.Contains(content, secret) || bytes.Contains(content, secret[:20]) {
				t.Errorf("the secret is in %s", path)
			}
		}
	}
	if files < 4 {
		t.Errorf("looked at %d files only", files)
	}
	if strings.Contains(fmt.Sprintf("%v", hiddenKey(nameKey(1, string(secret)))), string(secret[:5])) {
		t.Error("a key shows a name in messages")
	}
}

// TestGoroutines checks that Close waits for all that Open started.
func TestGoroutines(t *testing.T) {
	r := newRig(t, 32<<20, nil)
	r.close()
	before := runtime.NumGoroutine()
	for range 3 {
		r.open()
		r.write(r.file(fmt.Sprint(time.Now().UnixNano())), 0, noise(1, 100<<10), vfs.Unstable)
		r.close()
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

// TestClosed checks that a stopped store says so.
func TestClosed(t *testing.T) {
	r := newRig(t, 32<<20, nil)
	id := r.file("f")
	r.write(id, 0, []byte("unstable"), vfs.Unstable)
	s := r.Store
	r.close()
	if err := s.GetAttr(bg, id, new(vfs.Attr)); !errors.Is(err, vfs.ErrClosed) {
		t.Errorf("GetAttr: %v", err)
	}
	if err := s.Close(); !errors.Is(err, vfs.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	s.Drop(id)
	if _, err := s.Check(bg); !errors.Is(err, vfs.ErrClosed) {
		t.Errorf("Check: %v", err)
	}
	r.open()
	r.wantContent(id, []byte("unstable")) // Close makes it stable
}
