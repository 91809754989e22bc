package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// KeyBytes is the length of the root key, and of what a key file holds.
const KeyBytes = 32

// Kind says what a root of trust is.
type Kind string

// The kinds of roots.
const (
	KeyFile    Kind = "file"
	Passphrase Kind = "passphrase"
	TPM        Kind = "tpm"
	Vault      Kind = "vault"
	PKCS11     Kind = "pkcs11"
	// Recovery is a key that was shown once, beside another root, and stands in for it.
	Recovery Kind = "recovery"
)

// What can be wrong with something wrapped. Each root's own errors stand beside it.
var (
	// ErrRefused says that the root does not open what it was given: it is another one, or what it was
	// given was changed.
	ErrRefused = errors.New("the root of trust does not fit")
	// ErrDamaged says that what was given was never wrapped by such a root.
	ErrDamaged = errors.New("what the root of trust has wrapped is damaged")
)

// Root is a root of trust. It writes no file. Its methods are called one at a time.
type Root interface {
	Kind() Kind
	// Wrap returns secret, KeyBytes long, in a form that only Unwrap of the same root with the same aad
	// takes back: a JSON object of at most MaxWrappedBytes.
	Wrap(ctx context.Context, secret, aad []byte) (wrapped []byte, err error)
	// Unwrap returns the secret, which the caller wipes. Its errors are sentences that say what to do.
	Unwrap(ctx context.Context, wrapped, aad []byte) (secret []byte, err error)
	// Describe says in a sentence which root it is, and from whom it keeps what it has wrapped.
	Describe() string
	// Close wipes what the root holds in memory.
	Close() error
}

// Options say which root of trust there is, and how it is reached.
type Options struct {
	Kind Kind
	// Where is the path of a key file or a TPM, that of a file with a passphrase or a recovery key ("-" asks
	// for it), the address of a key in Vault, https://HOST/MOUNT/KEY, or MODULE?token=LABEL&object=LABEL of a key in a
	// PKCS#11 token.
	Where string
	// Ask returns a passphrase that somebody types, whom it asks twice if confirm; nil if nobody is there.
	Ask func(ctx context.Context, confirm bool) ([]byte, error)
	// Cost is what a guess at a passphrase costs that is set from now on.
	Cost Cost
	// PCRs are the registers that a TPM seals to from now on; 7 and 11 by default, or 7 with PolicyKeyFile. Not nil and
	// empty are none, which only PolicyKeyFile allows.
	PCRs []uint
	// PolicyKeyFile is the public key, in PEM, of who signs for values that further registers may have: what a TPM seals
	// from now on it gives out to whatever the key's owner has signed. "" for nobody.
	PolicyKeyFile string
	// PolicySignaturesFile is what has been signed for the system that runs, in JSON as systemd-measure makes it.
	PolicySignaturesFile string
	// VaultTokenFile holds the token for Vault, mode 0600; VaultCAFile the CAs of its certificate in PEM, those
	// of the system by default.
	VaultTokenFile, VaultCAFile string
	// PINFile holds the PIN of the user of a PKCS#11 token, mode 0600.
	PINFile string
	// ShowRecovery shows a new recovery key to somebody who keeps it. A TPM needs it when something is sealed;
	// other roots than a key file get a recovery key if it is there. May be nil.
	ShowRecovery func(key string) error
}

// Parse reads KIND:WHERE, as a command line has it.
func Parse(text string) (Options, error) {
	kind, where, found := strings.Cut(text, ":")
	o := Options{Kind: Kind(kind), Where: where}
	if !found || !slices.Contains(kinds, o.Kind) {
		return Options{}, fmt.Errorf("%q is no root of trust: it is %s", text, usage)
	}
	return o, o.Validate()
}

var kinds = []Kind{KeyFile, Passphrase, TPM, Vault, PKCS11, Recovery}

const usage = "file:PATH, passphrase:PATH, tpm:DEVICE, vault:https://HOST/MOUNT/KEY, pkcs11:MODULE?token=LABEL&object=LABEL, or recovery:PATH with the recovery key; a dash for the PATH of a passphrase or recovery key asks for it"

// String is the inverse of Parse.
func (o *Options) String() string { return string(o.Kind) + ":" + o.Where }

// EnsureDefaults fills in what was left zero.
func (o *Options) EnsureDefaults() {
	o.Cost.ensureDefaults()
	switch {
	case o.PCRs != nil:
	case o.PolicyKeyFile != "":
		o.PCRs = signedPCRs
	default:
		o.PCRs = defaultPCRs
	}
}

// Validate says what is wrong.
func (o *Options) Validate() error {
	if o.Where == "" {
		return fmt.Errorf("root of trust %q: what comes after the colon is missing; it is %s", o.String(), usage)
	}
	switch {
	case o.Kind == Vault:
		_, _, _, err := parseVaultURL(o.Where)
		return err
	case o.Kind == PKCS11:
		_, err := parsePKCS11(o.Where)
		return err
	case o.Kind == TPM && o.PCRs != nil:
		return checkSealedTo(o.PCRs, o.PolicyKeyFile != "")
	}
	return nil
}

// Open returns the root that o names, after EnsureDefaults. It touches nothing yet but the file of a
// passphrase or a key. A root for something new asks for a new passphrase twice, and refuses a weak one.
func Open(ctx context.Context, o Options, forNew bool) (Root, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	switch o.Kind {
	case Passphrase:
		return openPassphrase(ctx, &o, forNew)
	case TPM:
		return openTPM(&o)
	case Vault:
		return openVault(&o)
	case PKCS11:
		return openPKCS11(&o)
	case Recovery:
		return openRecovery(ctx, &o)
	default:
		return openKeyFile(o.Where)
	}
}
