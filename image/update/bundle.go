package update

import (
	"archive/tar"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Names of the members, in their order.
const (
	manifestName  = "manifest.json"
	signatureName = "manifest.sig"
	kernelName    = "kernel.efi"
	rootName      = "root.img"
)

// A Bundle is being read; its signature is good.
type Bundle struct {
	Manifest
	tar *tar.Reader
}

// Open reads the manifest of a bundle, and takes it only if one of the keys has signed it. Errors are ErrSignature,
// ErrDamaged, that of another format, or that of r.
func Open(r io.Reader, keys []ed25519.PublicKey) (*Bundle, error) {
	b := &Bundle{tar: tar.NewReader(io.LimitReader(r, MaxBytes))}
	manifest, err := b.small(manifestName)
	if err != nil {
		return nil, err
	}
	signature, err := b.small(signatureName)
	if err != nil {
		return nil, err
	}
	if err := verify(keys, manifest, signature); err != nil {
		return nil, err
	}
	m, err := parseManifest(manifest)
	if err != nil {
		return nil, err
	}
	b.Manifest = *m
	return b, nil
}

// member goes on to the next one, which has to have that name.
func (b *Bundle) member(name string) (*tar.Header, error) {
	h, err := b.tar.Next()
	if err != nil {
		return nil, fmt.Errorf("%w: no %s: %w", ErrDamaged, name, err)
	}
	if h.Name != name || h.Typeflag != tar.TypeReg {
		return nil, fmt.Errorf("%w: %.40q stands where %s should", ErrDamaged, h.Name, name)
	}
	return h, nil
}

func (b *Bundle) small(name string) ([]byte, error) {
	h, err := b.member(name)
	if err != nil {
		return nil, err
	}
	if h.Size > maxManifestBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrDamaged, name, h.Size)
	}
	text, err := io.ReadAll(b.tar)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, name, err)
	}
	return text, nil
}

// part goes on to a member of the size that the manifest has for it.
func (b *Bundle) part(name string, p Part) (io.Reader, error) {
	h, err := b.member(name)
	if err != nil {
		return nil, err
	}
	if h.Size != p.SizeBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes, and the manifest says %d", ErrDamaged, name, h.Size, p.SizeBytes)
	}
	return b.tar, nil
}

// kernel reads the kernel image, which comes before the root.
func (b *Bundle) kernel() ([]byte, error) {
	r, err := b.part(kernelName, b.Kernel)
	if err != nil {
		return nil, err
	}
	image := make([]byte, b.Kernel.SizeBytes)
	if _, err := io.ReadFull(r, image); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, kernelName, err)
	}
	if sum := sha256.Sum256(image); hex.EncodeToString(sum[:]) != b.Kernel.SHA256 {
		return nil, fmt.Errorf("%w: %s has another hash than the manifest", ErrDamaged, kernelName)
	}
	return image, nil
}

// Make writes a bundle of a kernel image and a root, signed with the builder's key. All of its times are made.
func Make(w io.Writer, key ed25519.PrivateKey, made time.Time, version, verityRoot, kernel, root string) error {
	m := Manifest{Format: format, Version: version, Verity: verityRoot}
	var err error
	if m.Kernel, err = measure(kernel); err != nil {
		return err
	}
	if m.Root, err = measure(root); err != nil {
		return err
	}
	if err := m.validate(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	text = append(text, '\n')
	t := tar.NewWriter(w)
	add := func(name string, size int64, write func() error) error {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: made, Format: tar.FormatUSTAR}
		return errors.Join(t.WriteHeader(h), write())
	}
	bytesOf := func(b []byte) func() error {
		return func() error { _, err := t.Write(b); return err }
	}
	fileOf := func(name string) func() error { return func() error { return copyFile(t, name) } }
	signature := ed25519.Sign(key, append([]byte(Context), text...))
	return errors.Join(
		add(manifestName, int64(len(text)), bytesOf(text)),
		add(signatureName, int64(len(signature)), bytesOf(signature)),
		add(kernelName, m.Kernel.SizeBytes, fileOf(kernel)),
		add(rootName, m.Root.SizeBytes, fileOf(root)),
		t.Close())
}

func copyFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// measure gives size and hash of a file.
func measure(name string) (Part, error) {
	hash := sha256.New()
	if err := copyFile(hash, name); err != nil {
		return Part{}, fmt.Errorf("update: %w", err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return Part{}, fmt.Errorf("update: %w", err)
	}
	return Part{SizeBytes: info.Size(), SHA256: hex.EncodeToString(hash.Sum(nil))}, nil
}
