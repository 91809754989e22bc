package update

import (
	"archive/tar"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/image/gpt"
	"github.com/nfseal/nfseal/image/verity"
)

const mib = 1 << 20

// A builder makes versions.
type builder struct {
	t      *testing.T
	public ed25519.PublicKey
	key    ed25519.PrivateKey
}

func newBuilder(t *testing.T) *builder {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &builder{t, public, key}
}

func (b *builder) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// A version is what a bundle is made of.
type version struct {
	name         string
	kernel, root []byte
	verity       verity.Root
}

// version makes one whose root has rootBytes.
func (b *builder) version(name string, rootBytes int) version {
	v := version{name: name, root: make([]byte, rootBytes)}
	_, _ = rand.Read(v.root) // it never fails
	v.verity = verity.Root{Hash: sha256.Sum256(v.root), DataBlocks: 1}
	v.kernel = program(map[string]string{
		".cmdline": "nfseal.root=" + v.verity.String() + " quiet", ".osrel": fmt.Sprintf("ID=nfseal\nIMAGE_VERSION=%q\n", name),
	})
	return v
}

// program is an EFI program with some sections and nothing to run.
func program(sections map[string]string) []byte {
	var b bytes.Buffer
	b.WriteString("MZ")
	b.Write(make([]byte, 58))
	_ = binary.Write(&b, binary.LittleEndian, uint32(64))
	b.WriteString("PE\x00\x00")
	_ = binary.Write(&b, binary.LittleEndian, []uint16{0x8664, uint16(len(sections)), 0, 0, 0, 0, 0, 0, 0, 0})
	at := b.Len() + 40*len(sections)
	var data bytes.Buffer
	for _, name := range []string{".cmdline", ".osrel"} {
		text, ok := sections[name]
		if !ok {
			continue
		}
		header := make([]byte, 40)
		copy(header, name)
		binary.LittleEndian.PutUint32(header[8:], uint32(len(text)))
		binary.LittleEndian.PutUint32(header[16:], uint32(len(text)))
		binary.LittleEndian.PutUint32(header[20:], uint32(at+data.Len()))
		b.Write(header)
		data.WriteString(text)
	}
	b.Write(data.Bytes())
	return b.Bytes()
}

// bundle is one of a version.
func (b *builder) bundle(v version) []byte {
	b.t.Helper()
	dir := b.t.TempDir()
	kernel, root := filepath.Join(dir, "kernel"), filepath.Join(dir, "root")
	b.must(errors.Join(os.WriteFile(kernel, v.kernel, 0o600), os.WriteFile(root, v.root, 0o600)))
	var out bytes.Buffer
	b.must(Make(&out, b.key, time.Unix(1700000000, 0), v.name, v.verity.String(), kernel, root))
	return out.Bytes()
}

// members are those of a bundle, to be changed and put together again.
func members(t *testing.T, bundle []byte) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(bundle)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if all[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func pack(t *testing.T, all map[string][]byte, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(all[name])), Mode: 0o644})
		if err == nil {
			_, err = w.Write(all[name])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var order = []string{manifestName, signatureName, kernelName, rootName}

// machine runs a version from a disk of sizeBytes, in a file.
func (b *builder) machine(runs version, sizeBytes int64) *Target {
	b.t.Helper()
	dir := b.t.TempDir()
	table, err := gpt.New(gpt.Derive("disk"), 2*mib+8*mib+int64(len(runs.root)), 512)
	b.must(err)
	_, err = table.Add(gpt.TypeESP, gpt.Derive("esp"), "esp", 8*mib)
	b.must(err)
	p, err := table.Add(gpt.TypeRoot, gpt.FromHash(runs.verity.Hash), "root", int64(len(runs.root)))
	b.must(err)
	disk, err := os.Create(filepath.Join(dir, "disk"))
	b.must(err)
	b.t.Cleanup(func() { disk.Close() })
	offset, _ := table.Range(p)
	_, err = disk.WriteAt(runs.root, offset)
	b.must(errors.Join(err, table.Write(disk), disk.Truncate(sizeBytes)))
	esp := filepath.Join(dir, "esp")
	b.must(os.MkdirAll(filepath.Join(esp, linuxDir), 0o755))
	b.must(os.WriteFile(filepath.Join(esp, linuxDir, EntryName(runs.name)), runs.kernel, 0o644))
	return &Target{Disk: disk, SizeBytes: sizeBytes, SectorBytes: 512, ESP: esp, Version: runs.name, Root: runs.verity}
}

// upgrade opens a bundle and writes it.
func (b *builder) upgrade(t *Target, bundle []byte) error {
	opened, err := Open(bytes.NewReader(bundle), []ed25519.PublicKey{b.public})
	if err != nil {
		return err
	}
	return opened.Write(t)
}

// names are the kernel images of the boot loader.
func (t *Target) names() []string {
	files, _ := os.ReadDir(filepath.Join(t.ESP, linuxDir))
	var all []string
	for _, f := range files {
		all = append(all, f.Name())
	}
	return all
}

// has says whether the disk has a version's root, whole, where its kernel image finds it.
func (t *Target) has(v version) error {
	table, err := gpt.Read(t.Disk, t.SizeBytes, t.SectorBytes)
	if err != nil {
		return err
	}
	p, ok := table.Find(gpt.FromHash(v.verity.Hash))
	if !ok {
		return errors.New("no partition")
	}
	offset, size := table.Range(p)
	got := make([]byte, len(v.root))
	if _, err := t.Disk.ReadAt(got, offset); err != nil {
		return err
	}
	if !bytes.Equal(got, v.root) || size < int64(len(v.root)) {
		return errors.New("other content")
	}
	return nil
}

// TestUpgrades goes through versions: each leaves the one before beside it, and room is used again.
func TestUpgrades(t *testing.T) {
	b := newBuilder(t)
	before := b.version("1.0", 3*mib)
	m := b.machine(before, 26*mib) // room for three roots of 5 MiB, not for four
	for i, name := range []string{"1.1", "1.2", "1.10", "2.0~rc1", "2.0"} {
		next := b.version(name, 5*mib-i*4096)
		b.must(b.upgrade(m, b.bundle(next)))
		if got, want := m.names(), []string{"nfseal_" + before.name + ".efi", "nfseal_" + name + "+3-0.efi"}; !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: the boot loader has %q, not %q", name, got, want)
		}
		for _, v := range []version{before, next} {
			if err := m.has(v); err != nil {
				t.Errorf("%s after %s: %v", v.name, name, err)
			}
		}
		if trial, err := OnTrial(m.ESP, name); err != nil || !trial {
			t.Errorf("%s is on trial: %v, %v", name, trial, err)
		}
		m.Version, m.Root = name, next.verity
		if err := b.upgrade(m, b.bundle(b.version("9", mib))); err == nil || !strings.Contains(err.Error(), "on trial") {
			t.Errorf("what is on trial is upgraded: %v", err)
		}
		// The boot loader has counted one try.
		dir := filepath.Join(m.ESP, linuxDir)
		b.must(os.Rename(filepath.Join(dir, trialName(name)), filepath.Join(dir, "nfseal_"+name+"+2-1.efi")))
		b.must(Bless(m.ESP, name))
		b.must(Bless(m.ESP, name))
		if trial, err := OnTrial(m.ESP, name); err != nil || trial {
			t.Errorf("%s is on trial after it was blessed: %v, %v", name, trial, err)
		}
		before = next
	}
}

// TestRefusals: whatever is wrong with a bundle, what runs is as it was, and nothing is there to be started instead.
func TestRefusals(t *testing.T) {
	b, other := newBuilder(t), newBuilder(t)
	runs, next := b.version("1.5", 96<<10), b.version("1.6", 64<<10)
	good := b.bundle(next)
	change := func(name string, to func([]byte) []byte) []byte {
		all := members(t, good)
		all[name] = to(bytes.Clone(all[name]))
		return pack(t, all, order...)
	}
	flip := func(text []byte) []byte { text[len(text)/2] ^= 1; return text }
	resigned := func(from, to string) []byte {
		all := members(t, good)
		all[manifestName] = bytes.Replace(all[manifestName], []byte(from), []byte(to), 1)
		all[signatureName] = ed25519.Sign(b.key, append([]byte(Context), all[manifestName]...))
		return pack(t, all, order...)
	}
	foreign := b.version("1.6", 64<<10)
	foreign.kernel = b.version("1.6", 64<<10).kernel
	misnamed := b.version("1.7", 64<<10)
	misnamed.name = "1.8"
	for name, c := range map[string]struct {
		bundle []byte
		want   error
		text   string
	}{
		"nothing":                   {nil, ErrDamaged, ""},
		"no bundle":                 {[]byte(strings.Repeat("no tar ", 1000)), ErrDamaged, ""},
		"other signature":           {other.bundle(next), ErrSignature, ""},
		"signature cut":             {change(signatureName, func(s []byte) []byte { return s[:63] }), ErrSignature, ""},
		"signature empty":           {change(signatureName, func([]byte) []byte { return nil }), ErrSignature, ""},
		"manifest changed":          {change(manifestName, flip), ErrSignature, ""},
		"manifest large":            {change(manifestName, func([]byte) []byte { return make([]byte, maxManifestBytes+1) }), ErrDamaged, "bytes"},
		"signature without context": {change(signatureName, func([]byte) []byte { return ed25519.Sign(b.key, members(t, good)[manifestName]) }), ErrSignature, ""},
		"kernel changed":            {change(kernelName, flip), ErrDamaged, "another hash"},
		"kernel cut":                {change(kernelName, func(s []byte) []byte { return s[1:] }), ErrDamaged, "the manifest says"},
		"root changed":              {change(rootName, flip), ErrDamaged, "another hash"},
		"root cut":                  {change(rootName, func(s []byte) []byte { return s[:len(s)-4096] }), ErrDamaged, "the manifest says"},
		"root longer":               {change(rootName, func(s []byte) []byte { return append(s, make([]byte, 4096)...) }), ErrDamaged, "the manifest says"},
		"without root":              {pack(t, members(t, good), order[:3]...), ErrDamaged, "no root.img"},
		"other order":               {pack(t, members(t, good), manifestName, kernelName, signatureName, rootName), ErrDamaged, "stands where"},
		"truncated in the root":     {good[:len(good)-20<<10], nil, "write the root"},
		"truncated in the kernel":   {good[:2048+600], ErrDamaged, ""},
		"older":                     {b.bundle(b.version("1.4.9", 64<<10)), ErrOlder, "1.5 runs"},
		"the same":                  {b.bundle(b.version("1.5", 64<<10)), ErrOlder, ""},
		"before a release":          {b.bundle(b.version("1.5~rc2", 64<<10)), ErrOlder, ""},
		"kernel of another root":    {b.bundle(foreign), ErrDamaged, "does not belong"},
		"kernel of another version": {b.bundle(misnamed), ErrDamaged, "does not belong"},
		"other format":              {resigned(`"format": 1`, `"format": 2`), nil, "format 2"},
		"unknown field":             {resigned(`"format"`, `"x": 1, "format"`), ErrDamaged, ""},
		"version with a counter":    {resigned(`"version": "1.6"`, `"version": "1.6+3"`), ErrDamaged, "version"},
		"version that climbs":       {resigned(`"version": "1.6"`, `"version": "../../x"`), ErrDamaged, "version"},
		"negative size":             {resigned(fmt.Sprint(len(next.root)), "-1"), ErrDamaged, "root of -1"},
		"huge size":                 {resigned(fmt.Sprint(len(next.root)), fmt.Sprint(int64(maxRootBytes)+1)), ErrDamaged, "root of"},
		"wrong size":                {resigned(fmt.Sprint(len(next.root)), fmt.Sprint(len(next.root)-4096)), ErrDamaged, "the manifest says"},
		"no room":                   {b.bundle(b.version("1.6", 20*mib)), nil, "no room for a second system"},
	} {
		m := b.machine(runs, 20*mib)
		err := b.upgrade(m, c.bundle)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, not %v %s", name, err, c.want, c.text)
		}
		if got := m.names(); !slices.Equal(got, []string{EntryName(runs.name)}) {
			t.Errorf("%s: the boot loader has %q", name, got)
		}
		if err := m.has(runs); err != nil {
			t.Errorf("%s: what runs: %v", name, err)
		}
		if err := m.has(next); err == nil {
			t.Errorf("%s: the partition is there", name)
		}
	}
}

// TestGivenUp goes back after three tries, as the boot loader counts them, and can try another version then.
func TestGivenUp(t *testing.T) {
	b := newBuilder(t)
	m := b.machine(b.version("1", mib), 20*mib)
	b.must(b.upgrade(m, b.bundle(b.version("2", mib))))
	dir := filepath.Join(m.ESP, linuxDir)
	before := "nfseal_2+3-0.efi"
	for _, c := range [][2]string{{"nfseal_2+2-1.efi", ""}, {"nfseal_2+1-2.efi", ""}, {"nfseal_2+0-3.efi", "2"}} {
		b.must(os.Rename(filepath.Join(dir, before), filepath.Join(dir, c[0])))
		before = c[0]
		if got, err := GivenUp(m.ESP, "1"); err != nil || got != c[1] {
			t.Errorf("%s: %q, %v", c[0], got, err)
		}
	}
	b.must(b.upgrade(m, b.bundle(b.version("2.1", mib))))
	if got, err := GivenUp(m.ESP, "1"); err != nil || got != "" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNoKeysTakeNothing(t *testing.T) {
	b := newBuilder(t)
	if _, err := Open(bytes.NewReader(b.bundle(b.version("1", mib))), nil); !errors.Is(err, ErrSignature) {
		t.Errorf("%v", err)
	}
}

// TestInterrupted takes the power away after each write to the disk: what ran still runs, and the next attempt goes on.
func TestInterrupted(t *testing.T) {
	b := newBuilder(t)
	runs, next := b.version("1", 96<<10), b.version("2", 64<<10)
	m := b.machine(runs, 20*mib)
	bundle := b.bundle(next)
	// The root is written and has its entry; the kernel image is half written.
	dir := filepath.Join(m.ESP, linuxDir)
	opened, err := Open(bytes.NewReader(bundle), []ed25519.PublicKey{b.public})
	b.must(err)
	_, err = opened.kernel()
	b.must(err)
	b.must(opened.writeRoot(m))
	b.must(os.WriteFile(filepath.Join(dir, unfinished), next.kernel[:10], 0o644))
	if err := m.has(runs); err != nil {
		t.Error(err)
	}
	b.must(b.upgrade(m, bundle))
	if err := errors.Join(m.has(runs), m.has(next)); err != nil {
		t.Error(err)
	}
	if got := m.names(); !slices.Equal(got, []string{"nfseal_1.efi", "nfseal_2+3-0.efi"}) {
		t.Errorf("%q", got)
	}
}

// TestKeysOfOpenSSL: keys and signature are those that openssl has.
func TestKeysOfOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl: runs after scripts/deps.sh test")
	}
	dir := t.TempDir()
	private, public := filepath.Join(dir, "private"), filepath.Join(dir, "public.pem")
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	run("genpkey", "-algorithm", "ed25519", "-out", private)
	run("pkey", "-in", private, "-pubout", "-out", public)
	key, err := ReadPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ReadKeys(dir)
	if err != nil || len(keys) != 1 || !keys[0].Equal(key.Public()) {
		t.Fatalf("%v, %v", keys, err)
	}
	text, err := EncodePublicKey(keys[0])
	if written, readErr := os.ReadFile(public); err != nil || readErr != nil || !bytes.Equal(text, written) {
		t.Errorf("%s, %v", text, err)
	}
	b := &builder{t, keys[0], key}
	all := members(t, b.bundle(b.version("1", mib)))
	signed, signature := filepath.Join(dir, "signed"), filepath.Join(dir, "signature")
	b.must(os.WriteFile(signed, append([]byte(Context), all[manifestName]...), 0o600))
	b.must(os.WriteFile(signature, all[signatureName], 0o600))
	run("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", signed, "-sigfile", signature)
	if _, err := ReadPrivateKey(public); err == nil {
		t.Error("a public key is taken for a private one")
	}
	b.must(os.WriteFile(filepath.Join(dir, "broken.pem"), []byte("no key"), 0o600))
	if _, err := ReadKeys(dir); err == nil {
		t.Error("a broken key is left out without a word")
	}
}

// TestCompareIsSystemds holds the order against systemd's, which its boot loader shares.
func TestCompareIsSystemds(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze, of systemd: runs in make test on Debian, which has it")
	}
	versions := []string{
		"1", "1.0", "1.1", "1.2", "1.10", "01.2", "1.2~rc1", "1.2~rc10", "1.2-1", "1.2^git", "1.2-14-gabc", "1.2-2-gabc", "1.2.3", "1.2a", "1.2A",
		"a", "ab", "0.0.1234-g12ab", "0.0.1234-g12ab-dirty", "0.0.999-gffff", "abc1", "1abc",
	}
	for i, a := range versions {
		for _, b := range versions[i:] {
			out, err := exec.Command(analyze, "compare-versions", a, b).Output()
			var status *exec.ExitError
			if err != nil && !errors.As(err, &status) {
				t.Fatal(err)
			}
			want := strings.Fields(string(out))
			got := map[bool]string{true: "<", false: ">"}[Compare(a, b) < 0]
			if Compare(a, b) == 0 {
				got = "=="
			}
			if len(want) < 2 || want[1] != got {
				t.Errorf("%s %s %s, and systemd says %s", a, got, b, out)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"format":1,"version":"1","verity":"` + strings.Repeat("ab", 32) + `:1","kernel":{"sizeBytes":1,"sha256":"` + hex.EncodeToString(make([]byte, 32)) + `"}}`))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		all := map[string][]byte{manifestName: manifest, signatureName: ed25519.Sign(key, append([]byte(Context), manifest...))}
		if len(manifest) > maxManifestBytes {
			return
		}
		b, err := Open(bytes.NewReader(pack(t, all, manifestName, signatureName)), []ed25519.PublicKey{key.Public().(ed25519.PublicKey)})
		if err == nil && (!ValidVersion(b.Version) || b.Root.SizeBytes > maxRootBytes || b.Kernel.SizeBytes > maxKernelBytes) {
			t.Errorf("%+v", b.Manifest)
		}
	})
}
