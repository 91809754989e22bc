package trust

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// What a TPM can refuse.
var (
	// ErrPCRs says that the machine was not started as it was when the key was sealed.
	ErrPCRs = errors.New("this machine was started in another way than when its key was sealed")
	// ErrOtherTPM says that the key was sealed by another TPM, or that this one was cleared since.
	ErrOtherTPM = errors.New("this is not the TPM that the key was sealed by, or it was cleared since")
	// ErrTPM says that there is no TPM that can be used.
	ErrTPM = errors.New("the TPM can't be used")
)

// wayOut is what is left to those whose TPM refuses.
const wayOut = "start with the recovery key, -root recovery:PATH, and seal anew with -move-root"

// defaultPCRs are the state of Secure Boot, and the kernel and initial RAM disk of a unified kernel image.
var defaultPCRs = []uint{7, 11}

// signedPCRs is the state of Secure Boot alone: somebody signs for the kernel.
var signedPCRs = []uint{7}

// bootLoaderPCR tells one system from another, whatever that one does (see meaning).
const bootLoaderPCR = 4

// maxPCR is the last of the registers that a PC has.
const maxPCR = 23

// sessionNonceBytes is the length of the nonces of sessions.
const sessionNonceBytes = 16

// tpm wraps under a key that a TPM 2.0 gives out only while some of its platform configuration registers
// have the values that they had.
type tpm struct {
	device string // a character device, or a Unix socket at which a TPM answers
	pcrs   []uint // of what is wrapped from now on
	// keyFile names who signs for further registers, for what is wrapped from now on; "" for nobody.
	keyFile string
	// signatures is the file with signed policies for the system that runs; "" for none.
	signatures string
	sealed     *tpmWrapped // what was wrapped or unwrapped last
}

var _ Root = (*tpm)(nil)

type tpmWrapped struct {
	// PCRs are what the registers were. The TPM decides; these serve to say which one has changed.
	PCRs pcrPolicy `json:"pcrs"`
	// Authority is the public key of who signs for values that further registers may have (PKIX, DER); none if empty.
	Authority []byte `json:"authority,omitempty"`
	// Parent is the name of the storage key (TPM 2.0 Part 1, 16) that the sealed object is below.
	Parent  []byte `json:"parent"`
	Public  []byte `json:"public"`  // TPMT_PUBLIC of the sealed object
	Private []byte `json:"private"` // its TPM2B_PRIVATE without the length
	Sealed  []byte `json:"sealed"`
}

type pcrValue struct {
	Index  uint   `json:"index"`
	SHA256 []byte `json:"sha256"`
}

// pcrPolicy is values of registers, in the order of their numbers.
type pcrPolicy []pcrValue

func openTPM(o *Options) (Root, error) {
	return &tpm{device: o.Where, pcrs: slices.Clone(o.PCRs), keyFile: o.PolicyKeyFile, signatures: o.PolicySignaturesFile}, nil
}

// checkSealedTo says what is wrong with registers that something is sealed to, of which there need be none if somebody
// signs for others.
func checkSealedTo(pcrs []uint, signed bool) error {
	if signed && len(pcrs) == 0 {
		return nil
	}
	return checkPCRs(pcrs)
}

func checkPCRs(pcrs []uint) error {
	if len(pcrs) == 0 {
		return errors.New("a TPM seals to one PCR at least, or to those that somebody signs for")
	}
	for i, n := range pcrs {
		if n > maxPCR || slices.Contains(pcrs[:i], n) {
			return fmt.Errorf("PCR %d: they are 0 to %d, each once", n, maxPCR)
		}
	}
	return nil
}

// Kind implements Root.
func (t *tpm) Kind() Kind { return TPM }

// Describe implements Root.
func (t *tpm) Describe() string {
	of, signed := t.pcrs, t.keyFile != ""
	if t.sealed != nil {
		of, signed = t.sealed.PCRs.indexes(), len(t.sealed.Authority) > 0
	}
	to := "the TPM at " + t.device
	if signed {
		to += ", for systems that their builder has signed"
	}
	// What is measured after the boot loader another one can repeat: it is the firmware that says which one it starts.
	if slices.Contains(of, bootLoaderPCR) {
		return to + ": who takes the disk, or starts this machine with another system, reads nothing; who takes the whole machine and starts it as it is has it serve"
	}
	return to + ": who takes the disk reads nothing; who takes the whole machine has it serve, and reads everything if Secure Boot lets another system start"
}

// Close implements Root.
func (t *tpm) Close() error { return nil }

// with runs f with the TPM and its storage key, the one of the TCG's ECC template in the owner hierarchy.
func (t *tpm) with(f func(conn transport.TPM, srk *storageKey) error) (err error) {
	conn, err := openDevice(t.device)
	if err != nil {
		return fmt.Errorf("%w: %w; a kernel that knows it shows it as /dev/tpmrm0", ErrTPM, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(conn)
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return fmt.Errorf("%w: its owner hierarchy has a password, and must have none", ErrTPM)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTPM, err)
	}
	defer func() {
		_, flushErr := tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(conn)
		err = errors.Join(err, flushErr)
	}()
	public, err := made.OutPublic.Contents()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTPM, err)
	}
	name, err := tpm2.ObjectName(public) // not what somebody on the bus says that it is
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTPM, err)
	}
	return f(conn, &storageKey{made.ObjectHandle, *public, *name})
}

func openDevice(path string) (transport.TPMCloser, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode()&os.ModeSocket != 0 {
		return linuxudstpm.Open(path)
	}
	return linuxtpm.Open(path)
}

// storageKey is the parent of sealed objects, loaded.
type storageKey struct {
	handle tpm2.TPMHandle
	public tpm2.TPMTPublic
	name   tpm2.TPM2BName
}

// auth authorizes the use of the key by a session whose parameters are encrypted, with a salt that only
// this key can read: who listens on the bus learns nothing.
func (k *storageKey) auth(direction func() tpm2.AuthOption) tpm2.AuthHandle {
	return tpm2.AuthHandle{
		Handle: k.handle, Name: k.name,
		Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, sessionNonceBytes, direction(), tpm2.Salted(k.handle, k.public)),
	}
}

func encryptIn() tpm2.AuthOption  { return tpm2.AESEncryption(128, tpm2.EncryptIn) }
func encryptOut() tpm2.AuthOption { return tpm2.AESEncryption(128, tpm2.EncryptOut) }

// Wrap implements Root.
func (t *tpm) Wrap(_ context.Context, secret, aad []byte) ([]byte, error) {
	key := make([]byte, KeyBytes)
	rand.Read(key) // never fails (crypto/rand)
	defer clear(key)
	var w tpmWrapped
	if t.keyFile != "" {
		authority, err := readPolicyKey(t.keyFile)
		if err != nil {
			return nil, err
		}
		w.Authority = authority.der
	}
	err := t.with(func(conn transport.TPM, srk *storageKey) error {
		// What the system that runs could not open is not sealed.
		if _, err := w.signed(conn, t.signatures); err != nil {
			return err
		}
		return w.create(conn, srk, t.pcrs, key)
	})
	if err != nil {
		return nil, err
	}
	if w.Sealed, err = seal(TPM, key, secret, aad); err != nil {
		return nil, err
	}
	t.sealed = &w
	return encode(w)
}

// create has the TPM seal key to the present values of pcrs.
func (w *tpmWrapped) create(conn transport.TPM, srk *storageKey, pcrs []uint, key []byte) error {
	var err error
	if w.PCRs, err = readPCRs(conn, pcrs); err != nil {
		return err
	}
	policy, err := w.policy()
	if err != nil {
		return err
	}
	made, err := tpm2.Create{
		ParentHandle: srk.auth(encryptIn),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: key}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256, AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
			// No password: the policy is the only way in, and no guess locks the TPM.
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, AdminWithPolicy: true, NoDA: true},
		}),
	}.Execute(conn)
	if err != nil {
		return fmt.Errorf("%w: it does not seal: %w", ErrTPM, err)
	}
	w.Parent, w.Public, w.Private = srk.name.Buffer, made.OutPublic.Bytes(), made.OutPrivate.Buffer
	return nil
}

// selection names registers of the SHA-256 bank.
func selection(pcrs ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)},
	}}
}

// readPCRs reads registers one by one, in their order, for a TPM answers with eight at most.
func readPCRs(conn transport.TPM, pcrs []uint) (pcrPolicy, error) {
	var values pcrPolicy
	for _, n := range slices.Sorted(slices.Values(pcrs)) {
		got, err := tpm2.PCRRead{PCRSelectionIn: selection(n)}.Execute(conn)
		if err != nil {
			return nil, fmt.Errorf("%w: PCR %d: %w", ErrTPM, n, err)
		}
		if len(got.PCRValues.Digests) != 1 || len(got.PCRValues.Digests[0].Buffer) != sha256.Size {
			return nil, fmt.Errorf("%w: it has no PCR %d with SHA-256: switch that bank on in the firmware", ErrTPM, n)
		}
		values = append(values, pcrValue{n, got.PCRValues.Digests[0].Buffer})
	}
	return values, nil
}

func (p pcrPolicy) indexes() []uint {
	var pcrs []uint
	for _, v := range p {
		pcrs = append(pcrs, v.Index)
	}
	return pcrs
}

// command wants the registers to be as in p (TPM 2.0 Part 3, 23.7).
func (p pcrPolicy) command() tpm2.PolicyPCR {
	sum := sha256.New()
	for _, v := range p {
		sum.Write(v.SHA256)
	}
	return tpm2.PolicyPCR{Pcrs: selection(p.indexes()...), PcrDigest: tpm2.TPM2BDigest{Buffer: sum.Sum(nil)}}
}

// digest is of a policy that wants nothing but that.
func (p pcrPolicy) digest() ([]byte, error) { return digest(p.command()) }

// policy is the digest of the policy of what is sealed: first the registers that somebody signs for, then those of w.
func (w *tpmWrapped) policy() ([]byte, error) {
	var parts []policyPart
	if len(w.Authority) > 0 {
		key, err := parsePolicyKey(w.Authority)
		if err != nil {
			return nil, err
		}
		of, err := key.authorize()
		if err != nil {
			return nil, err
		}
		parts = append(parts, of)
	}
	if len(w.PCRs) > 0 {
		parts = append(parts, w.PCRs.command())
	}
	return digest(parts...)
}

// policyPart is a command that a policy consists of.
type policyPart interface {
	Update(*tpm2.PolicyCalculator) error
}

func digest(parts ...policyPart) ([]byte, error) {
	calculator, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	for _, part := range parts {
		if err := part.Update(calculator); err != nil {
			return nil, fmt.Errorf("trust: %w", err)
		}
	}
	return calculator.Hash().Digest, nil
}

// Unwrap implements Root.
func (t *tpm) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	var w tpmWrapped
	if err := decode(wrapped, &w); err != nil {
		return nil, err
	}
	if checkSealedTo(w.PCRs.indexes(), len(w.Authority) > 0) != nil || len(w.Parent) == 0 {
		return nil, ErrDamaged
	}
	var key []byte
	err := t.with(func(conn transport.TPM, srk *storageKey) (err error) {
		key, err = w.unseal(conn, srk, t.signatures)
		return err
	})
	defer clear(key)
	if err != nil {
		return nil, err
	}
	t.sealed = &w
	return open(TPM, key, w.Sealed, aad)
}

// unseal has the TPM give out the key; signatures is the file with signed policies.
func (w *tpmWrapped) unseal(conn transport.TPM, srk *storageKey, signatures string) (key []byte, err error) {
	if !bytes.Equal(srk.name.Buffer, w.Parent) {
		return nil, fmt.Errorf("%w: %w; %s", ErrRefused, ErrOtherTPM, wayOut)
	}
	if err := w.unchanged(conn); err != nil {
		return nil, err
	}
	signed, err := w.signed(conn, signatures)
	if err != nil {
		return nil, err
	}
	loaded, err := tpm2.Load{
		ParentHandle: srk.auth(encryptIn),
		InPrivate:    tpm2.TPM2BPrivate{Buffer: w.Private}, InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](w.Public),
	}.Execute(conn)
	if err != nil {
		return nil, fmt.Errorf("%w: the TPM does not know what it is to unseal: %w", ErrDamaged, err)
	}
	defer func() {
		_, flushErr := tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(conn)
		err = errors.Join(err, flushErr)
	}()
	policy := func(conn transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		if err := signed.meet(conn, session); err != nil || len(w.PCRs) == 0 {
			return err
		}
		_, err := tpm2.PolicyPCR{PolicySession: session, Pcrs: selection(w.PCRs.indexes()...)}.Execute(conn)
		return err
	}
	got, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{
		Handle: loaded.ObjectHandle, Name: loaded.Name,
		Auth: tpm2.Policy(tpm2.TPMAlgSHA256, sessionNonceBytes, policy, encryptOut(), tpm2.Salted(srk.handle, srk.public)),
	}}.Execute(conn)
	if errors.Is(err, tpm2.TPMRCPolicyFail) {
		return nil, fmt.Errorf("%w: %w; %s", ErrRefused, ErrPCRs, wayOut)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: it does not unseal: %w", ErrTPM, err)
	}
	return got.OutData.Buffer, nil
}

// unchanged says which registers are not what they were.
func (w *tpmWrapped) unchanged(conn transport.TPM) error {
	now, err := readPCRs(conn, w.PCRs.indexes())
	if err != nil {
		return err
	}
	var changed []string
	for i, v := range now {
		if v.Index != w.PCRs[i].Index {
			return ErrDamaged // they are not in their order
		}
		if !bytes.Equal(v.SHA256, w.PCRs[i].SHA256) {
			changed = append(changed, fmt.Sprintf("PCR %d (%s)", v.Index, meaning(v.Index)))
		}
	}
	if changed == nil {
		return nil
	}
	return fmt.Errorf("%w: %w: %s changed. Start it as it was, or %s", ErrRefused, ErrPCRs, strings.Join(changed, " and "), wayOut)
}

// meaning says what a register measures (TCG PC Client Platform Firmware Profile §3.3.4; systemd).
func meaning(pcr uint) string {
	switch {
	case pcr <= 3:
		return "firmware and its settings"
	case pcr == 4:
		return "boot loader"
	case pcr == 5:
		return "partition table"
	case pcr == 7:
		return "Secure Boot and its keys"
	case pcr == 11:
		return "kernel image and boot phase"
	case pcr == 12, pcr == 13:
		return "kernel command line, credentials and extensions"
	default:
		return "see what measures into it"
	}
}
