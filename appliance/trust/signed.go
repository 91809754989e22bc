package trust

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/nfseal/nfseal/appliance/durable"
)

// ErrUnsigned says that nobody who may has signed for the system that this machine was started with.
var ErrUnsigned = errors.New("the system that this machine was started with is not one that the key's policy is signed for")

const (
	// PolicyKeyBits is the size of keys that sign policies: RSA of that size every TPM 2.0 has (TCG PC Client
	// Platform TPM Profile 1.05, 4.3).
	PolicyKeyBits = 2048
	// policyExponent is the only one that every TPM takes.
	policyExponent = 65537
	// maxPolicyKeyBytes and maxSignaturesBytes bound what is read of the files.
	maxPolicyKeyBytes  = 16 << 10
	maxSignaturesBytes = 256 << 10
	// maxSignatures bounds how many policies are looked at.
	maxSignatures = 64
)

// Signatures are signed policies, as systemd-measure writes them and systemd-stub hands them over.
type Signatures struct {
	SHA256 []Signature `json:"sha256"`
}

// Signature says that registers may be as in a policy.
type Signature struct {
	PCRs []uint `json:"pcrs"`
	// KeyPrint is the SHA-256 of the public key that verifies it (RFC 8017 A.1.1, DER), in hexadecimal digits.
	KeyPrint string `json:"pkfp"`
	// Policy is the digest of a policy that wants the registers to have their values (TPM 2.0 Part 3, 23.7), in
	// hexadecimal digits.
	Policy string `json:"pol"`
	// Signature is RSASSA-PKCS1-v1_5 with SHA-256 of the digest.
	Signature []byte `json:"sig"`
}

// Sign signs that registers may have values. It fails if the key is not one of PolicyKeyBits, or a number is no register's.
func Sign(key *rsa.PrivateKey, values map[uint][sha256.Size]byte) (Signature, error) {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return Signature{}, fmt.Errorf("trust: %w", err)
	}
	public, err := parsePolicyKey(der)
	if err != nil {
		return Signature{}, err
	}
	var wanted pcrPolicy
	for _, n := range slices.Sorted(maps.Keys(values)) {
		value := values[n]
		wanted = append(wanted, pcrValue{n, value[:]})
	}
	if err := checkPCRs(wanted.indexes()); err != nil {
		return Signature{}, err
	}
	policy, err := wanted.digest()
	if err != nil {
		return Signature{}, err
	}
	sum := sha256.Sum256(policy)
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		return Signature{}, fmt.Errorf("trust: %w", err)
	}
	return Signature{PCRs: wanted.indexes(), KeyPrint: public.print(), Policy: hex.EncodeToString(policy), Signature: signature}, nil
}

// A policyKey is the public key of who signs for values of registers.
type policyKey struct {
	der    []byte // PKIX
	rsa    *rsa.PublicKey
	public tpm2.TPMTPublic
}

// readPolicyKey reads a public key in PEM.
func readPolicyKey(path string) (*policyKey, error) {
	text, err := durable.ReadFile(path, maxPolicyKeyBytes)
	if err != nil {
		return nil, fmt.Errorf("key of signed TPM policies: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("%s is no public key in PEM", path)
	}
	key, err := parsePolicyKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func parsePolicyKey(der []byte) (*policyKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("a key of signed TPM policies: %w", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok || key.N.BitLen() != PolicyKeyBits || key.E != policyExponent {
		return nil, fmt.Errorf("a key of signed TPM policies is RSA of %d bits with the exponent %d, which every TPM has", PolicyKeyBits, policyExponent)
	}
	return &policyKey{der: der, rsa: key, public: tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{SignEncrypt: true, UserWithAuth: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			Scheme: tpm2.TPMTRSAScheme{
				Scheme:  tpm2.TPMAlgRSASSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			KeyBits: PolicyKeyBits,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()}),
	}}, nil
}

// print names the key in signatures.
func (k *policyKey) print() string {
	sum := sha256.Sum256(x509.MarshalPKCS1PublicKey(k.rsa))
	return hex.EncodeToString(sum[:])
}

// authorize is the part of a policy that is met by any policy that the key has signed (TPM 2.0 Part 3, 23.16).
func (k *policyKey) authorize() (tpm2.PolicyAuthorize, error) {
	name, err := tpm2.ObjectName(&k.public)
	if err != nil {
		return tpm2.PolicyAuthorize{}, fmt.Errorf("trust: %w", err)
	}
	return tpm2.PolicyAuthorize{KeySign: *name}, nil
}

// readSignatures reads the signed policies of a key.
func readSignatures(path string, key *policyKey) ([]Signature, error) {
	if path == "" {
		return nil, nil
	}
	text, err := durable.ReadFile(path, maxSignaturesBytes)
	if err != nil {
		return nil, fmt.Errorf("signed TPM policies: %w", err)
	}
	var all Signatures
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s has no signed TPM policies: %w", path, err)
	}
	var own []Signature
	for _, s := range all.SHA256 {
		if strings.EqualFold(s.KeyPrint, key.print()) && checkPCRs(s.PCRs) == nil && len(own) < maxSignatures {
			own = append(own, s)
		}
	}
	return own, nil
}

// A signedPolicy is what a session shows to have met a policy that somebody has signed; nil where nobody has to.
type signedPolicy struct {
	pcrs      []uint
	authorize tpm2.PolicyAuthorize
}

// signed gives the policy in the file of signatures that registers meet now, nil if w wants none.
func (w *tpmWrapped) signed(conn transport.TPM, signatures string) (*signedPolicy, error) {
	if len(w.Authority) == 0 {
		return nil, nil
	}
	key, err := parsePolicyKey(w.Authority)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	all, err := readSignatures(signatures, key)
	if err != nil {
		return nil, err
	}
	s, policy, err := fitting(conn, all)
	if err != nil {
		return nil, err
	}
	ticket, err := key.verify(conn, s, policy)
	if err != nil {
		return nil, err
	}
	p := &signedPolicy{pcrs: s.PCRs}
	if p.authorize, err = key.authorize(); err != nil {
		return nil, err
	}
	p.authorize.ApprovedPolicy, p.authorize.CheckTicket = tpm2.TPM2BDigest{Buffer: policy}, ticket
	return p, nil
}

// meet shows a session that the registers are as somebody has signed for. It comes first in a policy, for it replaces
// what was there before.
func (p *signedPolicy) meet(conn transport.TPM, session tpm2.TPMISHPolicy) error {
	if p == nil {
		return nil
	}
	if _, err := (tpm2.PolicyPCR{PolicySession: session, Pcrs: selection(p.pcrs...)}).Execute(conn); err != nil {
		return err
	}
	authorize := p.authorize
	authorize.PolicySession = session
	_, err := authorize.Execute(conn)
	return err
}

// fitting gives the signature for the values that registers have now, and the policy that it is of.
func fitting(conn transport.TPM, all []Signature) (*Signature, []byte, error) {
	for i := range all {
		now, err := readPCRs(conn, all[i].PCRs)
		if err != nil {
			return nil, nil, err
		}
		policy, err := now.digest()
		if err != nil {
			return nil, nil, err
		}
		if wanted, err := hex.DecodeString(all[i].Policy); err == nil && bytes.Equal(wanted, policy) {
			return &all[i], policy, nil
		}
	}
	return nil, nil, fmt.Errorf("%w: %w; %s", ErrRefused, ErrUnsigned, wayOut)
}

// verify has the TPM verify a signature, for a ticket that says that it did.
func (k *policyKey) verify(conn transport.TPM, s *Signature, policy []byte) (ticket tpm2.TPMTTKVerified, err error) {
	loaded, err := tpm2.LoadExternal{InPublic: tpm2.New2B(k.public), Hierarchy: tpm2.TPMRHOwner}.Execute(conn)
	if err != nil {
		return ticket, fmt.Errorf("%w: it does not take the key of signed policies: %w", ErrTPM, err)
	}
	defer func() {
		_, flushErr := tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(conn)
		err = errors.Join(err, flushErr)
	}()
	digest := sha256.Sum256(policy) // and no reference behind it
	verified, err := tpm2.VerifySignature{
		KeyHandle: tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name},
		Digest:    tpm2.TPM2BDigest{Buffer: digest[:]},
		Signature: tpm2.TPMTSignature{
			SigAlg: tpm2.TPMAlgRSASSA,
			Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA, &tpm2.TPMSSignatureRSA{
				Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: s.Signature},
			}),
		},
	}.Execute(conn)
	if err != nil {
		return ticket, fmt.Errorf("%w: the signature of the TPM policy is not of the key that it names: %w; %s", ErrRefused, err, wayOut)
	}
	return verified.Validation, nil
}
