package transport

import (
	"crypto/sha1" // what the peers' format names a public key by; nothing rests on its strength alone
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// ErrClaims says that a client's certificate has extensions that can't be taken for what they are.
var ErrClaims = errors.New("transport: extensions of the client's certificate are malformed")

// Claims are what a client says of itself in its certificate, in the extensions of efs-utils under
// 1.3.6.1.4.1.4843.7. Nothing of it is proved: see Proof.
type Claims struct {
	AccessPoint string // extension 1, "" if it has none
	FileSystem  string // extension 3, "" if it has none
	Proof       *Proof // extension 2, nil if the client is anonymous
	Client      string // extension 4, source and version of the program, for the log; "" if it has none
	// KeyHash is the SHA-1 of the certificate's public key (the BIT STRING of its
	// SubjectPublicKeyInfo), which a Proof is about.
	KeyHash [sha1.Size]byte
	// NotBefore and NotAfter are the certificate's dates.
	NotBefore, NotAfter time.Time
}

// Proof is a signature with an access key, made with AWS Signature Version 4 over the certificate's
// public key and the file system.
type Proof struct {
	AccessKeyID  string
	Signature    [32]byte
	Time         time.Time // of the signature, UTC, to the second
	SessionToken string    // "" for a user's own access key
}

// claimsArc is the prefix of the extensions; the next number says which.
var claimsArc = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 4843, 7}

const (
	claimAccessPoint = 1
	claimProof       = 2
	claimFileSystem  = 3
	claimClient      = 4
)

// ClaimsOf reads the extensions of a certificate. Errors are ErrClaims: an extension that is there
// twice, is no DER, has something behind it, or is longer than anybody's.
func ClaimsOf(cert *x509.Certificate) (Claims, error) {
	c := Claims{NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}
	if err := c.readKey(cert.RawSubjectPublicKeyInfo); err != nil {
		return Claims{}, err
	}
	seen := map[int]bool{}
	for _, e := range cert.Extensions {
		which, ours := claimOf(e.Id)
		if !ours {
			continue
		}
		if seen[which] {
			return Claims{}, fmt.Errorf("%w: extension %d is there twice", ErrClaims, which)
		}
		seen[which] = true
		if err := c.read(which, e.Value); err != nil {
			return Claims{}, fmt.Errorf("%w: extension %d: %w", ErrClaims, which, err)
		}
	}
	return c, nil
}

func claimOf(id asn1.ObjectIdentifier) (which int, ours bool) {
	n := len(claimsArc)
	if len(id) != n+1 || !id[:n].Equal(claimsArc) {
		return 0, false
	}
	return id[n], true
}

func (c *Claims) readKey(info []byte) error {
	var spki struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(info, &spki); err != nil || len(rest) > 0 {
		return fmt.Errorf("%w: public key", ErrClaims)
	}
	c.KeyHash = sha1.Sum(spki.Key.RightAlign())
	return nil
}

// read takes one extension; numbers that nobody uses are passed over.
func (c *Claims) read(which int, der []byte) (err error) {
	if len(der) > maxClaimBytes {
		return errors.New("too long")
	}
	switch which {
	case claimAccessPoint:
		c.AccessPoint, err = readUTF8(der)
	case claimFileSystem:
		c.FileSystem, err = readUTF8(der)
	case claimProof:
		c.Proof, err = readProof(der)
	case claimClient:
		c.Client, err = readClient(der)
	}
	return err
}

func readUTF8(der []byte) (string, error) {
	var v asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &v); err != nil || len(rest) > 0 {
		return "", errors.New("no DER")
	}
	return utf8Of(&v)
}

// utf8Of is the text of a UTF8String that is not empty. encoding/asn1 would take other strings for one.
func utf8Of(v *asn1.RawValue) (string, error) {
	s := string(v.Bytes)
	if v.Class != asn1.ClassUniversal || v.Tag != asn1.TagUTF8String || v.IsCompound || s == "" || !utf8.ValidString(s) {
		return "", errors.New("no UTF8String")
	}
	return s, nil
}

// readProof takes SEQUENCE{UTF8String, OCTET STRING, UTCTime, [0] EXPLICIT UTF8String OPTIONAL}. The
// octets are the signature in 64 hexadecimal digits.
func readProof(der []byte) (*Proof, error) {
	var raw struct {
		AccessKeyID asn1.RawValue
		Signature   []byte
		Time        asn1.RawValue
		Token       asn1.RawValue `asn1:"optional,explicit,tag:0"`
	}
	rest, err := asn1.Unmarshal(der, &raw)
	if err != nil || len(rest) > 0 {
		return nil, errors.New("no proof")
	}
	var p Proof
	if p.AccessKeyID, err = utf8Of(&raw.AccessKeyID); err != nil {
		return nil, err
	}
	if raw.Token.FullBytes != nil {
		if p.SessionToken, err = readUTF8(raw.Token.Bytes); err != nil { // what the explicit tag holds
			return nil, err
		}
	}
	if raw.Time.Tag != asn1.TagUTCTime {
		return nil, errors.New("no UTCTime")
	}
	if _, err := asn1.Unmarshal(raw.Time.FullBytes, &p.Time); err != nil {
		return nil, errors.New("no UTCTime")
	}
	p.Time = p.Time.UTC()
	if len(raw.Signature) != 2*len(p.Signature) {
		return nil, errors.New("the signature is not 64 hexadecimal digits")
	}
	if _, err := hex.Decode(p.Signature[:], raw.Signature); err != nil {
		return nil, errors.New("the signature is not hexadecimal")
	}
	return &p, nil
}

func readClient(der []byte) (string, error) {
	var raw struct{ Source, Version string }
	if rest, err := asn1.Unmarshal(der, &raw); err != nil || len(rest) > 0 {
		return "", errors.New("no client information")
	}
	return raw.Source + " " + raw.Version, nil
}
