package kms

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// State is whether a key can be used.
type State string

// The states of a key (KMS Developer Guide, "Key states").
const (
	Enabled         State = "Enabled"
	Disabled        State = "Disabled"
	PendingDeletion State = "PendingDeletion"
	// PendingImport is an external key without its material.
	PendingImport State = "PendingImport"
)

// Where a key's material comes from.
const (
	OriginHere     = "AWS_KMS"
	OriginExternal = "EXTERNAL"
)

// Key is a symmetric key as it is on record. Its material is sealed under the root of trust.
type Key struct {
	ID          string    `json:"id"` // a UUID
	State       State     `json:"state"`
	Created     time.Time `json:"created"`
	Description string    `json:"description,omitempty"`
	// Service is for whom the key is managed; empty for a customer's key.
	Service string            `json:"service,omitempty"`
	Policy  string            `json:"policy"`
	Tags    map[string]string `json:"tags,omitempty"`
	// DeletionDate is when a key that is pending deletion ceases to exist.
	DeletionDate time.Time `json:"deletionDate,omitzero"`
	Rotation     Rotation  `json:"rotation"`
	// Versions are in the order in which they were made; the last one encrypts, all decrypt.
	Versions []Version `json:"versions"`
	// Origin is OriginExternal, or empty for OriginHere. An external key has one version.
	Origin string `json:"origin,omitempty"`
	// ValidTo is when the material of an external key is deleted; zero: never, or there is none.
	ValidTo time.Time `json:"validTo,omitzero"`
	// MaterialDigest tells the material that was imported first from other.
	MaterialDigest []byte `json:"materialDigest,omitempty"`
}

// Version is one piece of key material.
type Version struct {
	Created  time.Time `json:"created"`
	OnDemand bool      `json:"onDemand,omitempty"`
	Sealed   []byte    `json:"sealed"` // empty: not imported, or deleted
}

// Rotation says when a key gets a new version by itself.
type Rotation struct {
	PeriodDays int       `json:"periodDays,omitempty"` // 0: it does not
	Next       time.Time `json:"next,omitzero"`
}

// Fault is an error of the KMS API, by its name there.
type Fault struct {
	Code    string
	Message string
}

// Error implements error.
func (f *Fault) Error() string { return "kms: " + f.Code + ": " + f.Message }

// Is says that a blob that can't be decrypted is what package keyring calls a wrong context.
func (f *Fault) Is(target error) bool {
	return f.Code == "InvalidCiphertextException" && (target == ErrInvalidCiphertext || target == keyring.ErrWrongContext)
}

func fault(code, format string, args ...any) *Fault {
	return &Fault{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Usable says why the key can't encrypt or decrypt now; nil if it can.
func (k *Key) Usable() error {
	switch k.State {
	case Enabled:
		return nil
	case Disabled:
		return fault("DisabledException", "%s is disabled.", k.ID)
	}
	return k.wrongState()
}

func (k *Key) wrongState() *Fault {
	return fault("KMSInvalidStateException", "%s is %s.", k.ID, pendingWords(k.State))
}

func pendingWords(s State) string {
	switch s {
	case PendingDeletion:
		return "pending deletion"
	case PendingImport:
		return "pending import"
	}
	return strings.ToLower(string(s))
}

// NotPending is what most changes of a key need: it says why a key that is pending deletion can't be changed.
func (k *Key) NotPending() error {
	if k.State == PendingDeletion {
		return k.wrongState()
	}
	return nil
}

// notPendingAnything is NotPending for what an external key without material can't do either.
func (k *Key) notPendingAnything() error {
	if k.State == PendingImport {
		return k.wrongState()
	}
	return k.NotPending()
}

// Enable lets the key be used.
func (k *Key) Enable() error {
	if err := k.notPendingAnything(); err != nil {
		return err
	}
	k.State = Enabled
	return nil
}

// Disable keeps the key from being used until Enable.
func (k *Key) Disable() error {
	if err := k.notPendingAnything(); err != nil {
		return err
	}
	k.State = Disabled
	return nil
}

// ScheduleDeletion has the key cease to exist after some days; until then it can't be used.
func (k *Key) ScheduleDeletion(days int, now time.Time) error {
	if err := k.NotPending(); err != nil {
		return err
	}
	if days < minDeletionDays || days > maxDeletionDays {
		return fault("ValidationException", "PendingWindowInDays must be %d to %d", minDeletionDays, maxDeletionDays)
	}
	k.State, k.DeletionDate = PendingDeletion, now.AddDate(0, 0, days).UTC()
	return nil
}

// CancelDeletion leaves the key disabled, or pending import if it has no material.
func (k *Key) CancelDeletion() error {
	if k.State != PendingDeletion {
		return fault("KMSInvalidStateException", "%s is not pending deletion.", k.ID)
	}
	k.State, k.DeletionDate = Disabled, time.Time{}
	if !k.HasMaterial() {
		k.State = PendingImport
	}
	return nil
}

// notExternal says why a key whose material comes from outside gets no versions here.
func (k *Key) notExternal() error {
	if !k.External() {
		return nil
	}
	return fault("UnsupportedOperationException", "%s origin is %s which is not valid for this operation.", k.ID, OriginExternal)
}

// EnableRotation gives the key a new version every so many days.
func (k *Key) EnableRotation(days int, now time.Time) error {
	if err := k.notExternal(); err != nil {
		return err
	}
	if err := k.Usable(); err != nil {
		return err
	}
	if days < minRotationDays || days > maxRotationDays {
		return fault("ValidationException", "RotationPeriodInDays must be %d to %d", minRotationDays, maxRotationDays)
	}
	k.Rotation = Rotation{PeriodDays: days, Next: now.AddDate(0, 0, days).UTC()}
	return nil
}

// DisableRotation leaves the versions as they are.
func (k *Key) DisableRotation() error {
	if err := k.notExternal(); err != nil {
		return err
	}
	if err := k.Usable(); err != nil {
		return err
	}
	k.Rotation = Rotation{}
	return nil
}

// onDemand is how often the key was rotated on demand.
func (k *Key) onDemand() (n int) {
	for i := range k.Versions {
		if k.Versions[i].OnDemand {
			n++
		}
	}
	return n
}

func (k *Key) rotationDue(now time.Time) bool {
	return k.Rotation.PeriodDays > 0 && !now.Before(k.Rotation.Next)
}

var (
	uuidPattern  = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	aliasPattern = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)
)

const uuidBytes = 16

func newUUID() string {
	var b [uuidBytes]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return formatUUID(b[:])
}

func formatUUID(b []byte) string {
	h := hex.EncodeToString(b)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// uuidOf is the inverse of formatUUID, for a text that has the shape.
func uuidOf(id string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(b) != uuidBytes {
		panic("kms: a key on record has no UUID")
	}
	return b
}
