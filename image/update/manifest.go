package update

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nfseal/nfseal/image/verity"
)

// Context is signed before the manifest, so that a signature over a bundle is one over nothing else.
const Context = "nfseal update bundle 1\n"

// format is the version of bundles.
const format = 1

var (
	// ErrSignature says that no key of this machine has signed a bundle.
	ErrSignature = errors.New("update: the bundle is not signed with a key that this machine takes updates from")
	// ErrDamaged says that a bundle is not whole, or not what its manifest says.
	ErrDamaged = errors.New("update: the bundle is damaged")
	// ErrOlder says that a bundle brings nothing newer.
	ErrOlder = errors.New("update: the bundle is not newer than what runs")
)

// A Part is a member of a bundle.
type Part struct {
	SizeBytes int64  `json:"sizeBytes"`
	SHA256    string `json:"sha256"`
}

// A Manifest says what a bundle holds.
type Manifest struct {
	Format  int    `json:"format"`
	Version string `json:"version"`
	Kernel  Part   `json:"kernel"`
	Root    Part   `json:"root"`
	// Verity is the root's hash and blocks, as the kernel's command line has it.
	Verity string `json:"verity"`
}

// parseManifest reads a manifest whose signature is good. What is wrong with it is the builder's mistake.
func parseManifest(text []byte) (*Manifest, error) {
	m := &Manifest{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrDamaged, err)
	}
	if m.Format != format {
		return nil, fmt.Errorf("update: the bundle has format %d, and this version reads %d", m.Format, format)
	}
	return m, m.validate()
}

func (m *Manifest) validate() error {
	root, err := verity.ParseRoot(m.Verity)
	if err != nil {
		return fmt.Errorf("%w: manifest: %w", ErrDamaged, err)
	}
	switch {
	case !ValidVersion(m.Version):
		return fmt.Errorf("%w: version %q", ErrDamaged, m.Version)
	case !m.Kernel.valid(maxKernelBytes):
		return fmt.Errorf("%w: kernel of %d bytes", ErrDamaged, m.Kernel.SizeBytes)
	case !m.Root.valid(maxRootBytes) || uint64(m.Root.SizeBytes) <= root.DataBlocks*verity.BlockBytes:
		return fmt.Errorf("%w: root of %d bytes", ErrDamaged, m.Root.SizeBytes)
	}
	return nil
}

func (p Part) valid(most int64) bool {
	sum, err := hex.DecodeString(p.SHA256)
	return err == nil && len(sum) == 32 && p.SizeBytes > 0 && p.SizeBytes <= most
}

// root is the verified root that the manifest names; validate has seen that it can be read.
func (m *Manifest) root() verity.Root {
	root, _ := verity.ParseRoot(m.Verity)
	return root
}

// verify says whether one of the keys has signed a manifest.
func verify(keys []ed25519.PublicKey, manifest, signature []byte) error {
	message := append([]byte(Context), manifest...)
	for _, key := range keys {
		if ed25519.Verify(key, message, signature) {
			return nil
		}
	}
	return ErrSignature
}
