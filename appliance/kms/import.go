package kms

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// WrappingAlgorithm is the only way in which material that is imported is encrypted (RFC 8017 §7.1, with
// SHA-256 in both places and no label).
const WrappingAlgorithm = "RSAES_OAEP_SHA_256"

// wrappingBits are the sizes of wrapping keys by their names in the API.
var wrappingBits = map[string]int{"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}

const (
	// importValidity is how long a wrapping key can be used, maxMaterialDays how long material may be told to
	// stay (KMS API, ImportKeyMaterial).
	importValidity  = 24 * time.Hour
	maxMaterialDays = 365
	// importsAtOnce bounds how many wrapping keys are made at the same time: each takes a processor for
	// up to some seconds.
	importsAtOnce = 1
)

// External is whether the key's material comes from outside.
func (k *Key) External() bool { return k.Origin == OriginExternal }

// HasMaterial is false for an external key before its material was imported, and after that is gone.
func (k *Key) HasMaterial() bool { return len(k.Versions[len(k.Versions)-1].Sealed) > 0 }

// dropMaterial takes the material out of an external key. Its digest stays: no other can take its place.
func (k *Key) dropMaterial() {
	k.Versions[0].Sealed, k.ValidTo = nil, time.Time{}
	if k.State != PendingDeletion {
		k.State = PendingImport
	}
}

// expired is whether the time of an external key's material is over.
func (k *Key) expired(now time.Time) bool { return !k.ValidTo.IsZero() && !now.Before(k.ValidTo) }

func (k *Key) mustBeExternal() error {
	if k.External() {
		return nil
	}
	return fault("UnsupportedOperationException", "%s origin is %s which is not valid for this operation.", k.ID, OriginHere)
}

// CreateExternal makes a key that has no material yet. An empty keyPolicy is the default one.
func (k *Keys) CreateExternal(ctx context.Context, description, keyPolicy string, tags map[string]string) (Key, error) {
	now := k.o.Clock().UTC()
	return k.create(ctx, Key{
		State: PendingImport, Created: now, Description: description, Policy: keyPolicy, Tags: tags,
		Origin: OriginExternal, Versions: []Version{{Created: now}},
	})
}

// ImportParameters are what somebody needs to encrypt material for one key.
type ImportParameters struct {
	Token     []byte    // to be given back with the material
	PublicKey []byte    // DER of a SubjectPublicKeyInfo
	ValidTo   time.Time // of both
}

// importToken is a wrapping key, sealed under the root key for one KMS key: nothing of it is kept here.
type importToken struct {
	Private []byte    `json:"private"` // PKCS #8
	ValidTo time.Time `json:"validTo"`
}

func tokenContext(id string) keyring.Context {
	return keyring.Context{"nfseal:purpose": "import token", "nfseal:key": id}
}

// ParametersForImport makes an RSA key to encrypt material for key with. It takes a processor for up to some
// seconds, so one is made at a time.
func (k *Keys) ParametersForImport(ctx context.Context, key Key, algorithm, spec string) (ImportParameters, error) {
	if err := firstFault(key.mustBeExternal(), key.NotPending()); err != nil {
		return ImportParameters{}, err
	}
	if algorithm != WrappingAlgorithm {
		return ImportParameters{}, fault("UnsupportedOperationException", "WrappingAlgorithm must be %s", WrappingAlgorithm)
	}
	bits := wrappingBits[spec]
	if bits == 0 {
		return ImportParameters{}, fault("ValidationException", "WrappingKeySpec must be RSA_2048, RSA_3072 or RSA_4096")
	}
	private, err := k.wrappingKey(ctx, bits)
	if err != nil {
		return ImportParameters{}, err
	}
	p := ImportParameters{ValidTo: k.o.Clock().Add(importValidity).UTC()}
	if p.PublicKey, err = x509.MarshalPKIXPublicKey(&private.PublicKey); err != nil {
		return ImportParameters{}, fmt.Errorf("kms: %w", err)
	}
	p.Token, err = k.sealToken(key.ID, private, p.ValidTo)
	return p, err
}

func (k *Keys) wrappingKey(ctx context.Context, bits int) (*rsa.PrivateKey, error) {
	select {
	case k.imports <- struct{}{}:
		defer func() { <-k.imports }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return private, nil
}

func (k *Keys) sealToken(id string, private *rsa.PrivateKey, validTo time.Time) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	defer clear(der)
	text, err := json.Marshal(importToken{der, validTo})
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	defer clear(text)
	return k.o.Root.seal(kindSecret, text, tokenContext(id))
}

// openToken is the inverse of sealToken.
func (k *Keys) openToken(id string, token []byte) (*rsa.PrivateKey, error) {
	text, err := k.o.Root.open(kindSecret, token, tokenContext(id))
	if err != nil {
		return nil, fault("InvalidImportTokenException", "the import token is not one that was given for this key")
	}
	defer clear(text)
	var t importToken
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, fmt.Errorf("kms: an import token of ours is not read: %w", err)
	}
	defer clear(t.Private)
	if !k.o.Clock().Before(t.ValidTo) {
		return nil, fault("ExpiredImportTokenException", "the import token ended at %s", t.ValidTo.Format(time.RFC3339))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(t.Private)
	private, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("kms: an import token of ours holds no RSA key")
	}
	return private, nil
}

// Import gives the external key id its material, 32 bytes encrypted as ParametersForImport said, until
// validTo, or for good if that is zero. What was imported once can be imported again, and nothing else.
func (k *Keys) Import(ctx context.Context, id string, token, encrypted []byte, validTo time.Time) (Key, error) {
	key, _, err := k.get(ctx, id)
	if err != nil {
		return Key{}, err
	}
	if err := firstFault(key.mustBeExternal(), key.NotPending(), k.checkValidTo(validTo)); err != nil {
		return Key{}, err
	}
	private, err := k.openToken(id, token)
	if err != nil {
		return Key{}, err
	}
	material, err := rsa.DecryptOAEP(sha256.New(), nil, private, encrypted, nil)
	if err != nil {
		return Key{}, fault("InvalidCiphertextException", "the key material can't be decrypted with the wrapping key of the import token")
	}
	defer clear(material)
	if len(material) != materialBytes {
		return Key{}, fault("IncorrectKeyMaterialException", "key material has %d bytes, this has %d", materialBytes, len(material))
	}
	return k.Change(ctx, id, func(key *Key) error { return k.setMaterial(key, material, validTo) })
}

func (k *Keys) checkValidTo(validTo time.Time) error {
	now := k.o.Clock()
	if validTo.IsZero() || validTo.After(now) && !validTo.After(now.AddDate(0, 0, maxMaterialDays)) {
		return nil
	}
	return fault("ValidationException", "ValidTo must lie ahead, by at most %d days", maxMaterialDays)
}

func (k *Keys) setMaterial(key *Key, material []byte, validTo time.Time) error {
	if err := firstFault(key.mustBeExternal(), key.NotPending()); err != nil {
		return err
	}
	h := sha256.New() // not of one slice: that would be a copy of the material
	h.Write([]byte("nfseal imported material v1\x00" + key.ID + "\x00"))
	h.Write(material)
	digest := h.Sum(nil)
	if key.MaterialDigest != nil && subtle.ConstantTimeCompare(key.MaterialDigest, digest) == 0 {
		return fault("IncorrectKeyMaterialException", "the key was made with other material, without which what it has encrypted can't be read")
	}
	sealed, err := k.o.Root.seal(kindSecret, material, materialContext(key.ID, 1))
	if err != nil {
		return err
	}
	key.MaterialDigest, key.ValidTo = digest, validTo.UTC()
	key.Versions[0] = Version{Created: key.Versions[0].Created, Sealed: sealed}
	if key.State == PendingImport {
		key.State = Enabled
	}
	return nil
}

// DeleteMaterial takes the material out of the external key id, which can be used again when it was imported
// again.
func (k *Keys) DeleteMaterial(ctx context.Context, id string) (Key, error) {
	return k.Change(ctx, id, func(key *Key) error {
		if err := key.mustBeExternal(); err != nil {
			return err
		}
		key.dropMaterial()
		return nil
	})
}

func firstFault(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
