package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"
)

// Reason says why a certificate was revoked (CRLReason, RFC 5280 §5.3.1).
type Reason int

// The reasons used here.
const (
	ReasonUnspecified   Reason = 0
	ReasonKeyCompromise Reason = 1
	ReasonSuperseded    Reason = 4
	ReasonCessation     Reason = 5
)

// Record is what the index holds of a certificate.
type Record struct {
	// Serial is in hexadecimal, lower case.
	Serial string `json:"serial"`
	// Names are DNS names and addresses.
	Names     []string  `json:"names"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// RevokedAt is zero while the certificate is good.
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	Reason    Reason    `json:"reason,omitempty"`
}

// Revoked says whether the certificate has been revoked.
func (r Record) Revoked() bool { return !r.RevokedAt.IsZero() }

// index is the certificates by serial. It is never changed once published: writers make another.
type index map[string]Record

type indexFile struct {
	Format       int      `json:"format"`
	Certificates []Record `json:"certificates"`
}

func readIndex(path string) (index, error) {
	var f indexFile
	if err := readJSON(path, &f); err != nil {
		return nil, err
	}
	if len(f.Certificates) > maxIndexEntries {
		return nil, fmt.Errorf("%w: %s has %d entries", ErrCorrupt, path, len(f.Certificates))
	}
	ix := make(index, len(f.Certificates))
	for _, r := range f.Certificates {
		if _, twice := ix[r.Serial]; twice || r.Serial == "" {
			return nil, fmt.Errorf("%w: %s has serial %q twice or empty", ErrCorrupt, path, r.Serial)
		}
		ix[r.Serial] = r
	}
	return ix, nil
}

func writeIndex(path string, ix index) error {
	f := indexFile{Format: formatVersion, Certificates: ix.records()}
	return writeJSON(path, f)
}

// records gives the entries in the order of their serials.
func (ix index) records() []Record {
	return slices.SortedFunc(maps.Values(ix), func(a, b Record) int { return strings.Compare(a.Serial, b.Serial) })
}

// with gives a copy that has r and lacks what expired long ago.
func (ix index) with(r Record, now time.Time) (index, error) {
	fresh := make(index, len(ix)+1)
	for serial, old := range ix {
		if now.Before(old.NotAfter.Add(keepExpired)) {
			fresh[serial] = old
		}
	}
	fresh[r.Serial] = r
	if len(fresh) > maxIndexEntries {
		return nil, fmt.Errorf("pki: more than %d certificates are in use", maxIndexEntries)
	}
	return fresh, nil
}

// openIndex reads the index, or makes it where the CA doesn't exist yet either. An index with
// entries and no CA, or a CA and no index, means that a file was lost.
func openIndex(path string, haveCA bool) (index, error) {
	ix, err := readIndex(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && haveCA:
		return nil, fmt.Errorf("%w: %s is missing while the CA is there; restore it", ErrCorrupt, path)
	case errors.Is(err, fs.ErrNotExist):
		return index{}, writeIndex(path, index{})
	case err != nil:
		return nil, err
	case !haveCA && len(ix) > 0:
		return nil, fmt.Errorf("%w: %s lists certificates but the CA file beside it is missing; restore it", ErrCorrupt, path)
	}
	return ix, nil
}
