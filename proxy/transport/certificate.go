package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"
)

// ClientIdentity is what a client says of itself to a server, and proves. Every formatter hides the
// secret.
type ClientIdentity struct {
	FileSystem  string // id
	AccessPoint string // id, "" for none
	Region      string
	// AccessKeyID and SecretAccessKey are an access key, both "" for an anonymous client.
	AccessKeyID, SecretAccessKey string
	SessionToken                 string // "" for a user's own key
	// Source and Version are the program's.
	Source, Version string
}

// String shows everything but the secrets.
func (i ClientIdentity) String() string {
	return fmt.Sprint("client of ", i.FileSystem, " ", i.AccessPoint, " with access key ", i.AccessKeyID)
}

// GoString is String.
func (i ClientIdentity) GoString() string { return i.String() }

// Format is String, whatever the verb.
func (i ClientIdentity) Format(f fmt.State, _ rune) { fmt.Fprint(f, i.String()) }

// MarshalJSON is String in quotes.
func (i ClientIdentity) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%q", i.String()), nil }

// Certificate makes a key pair and a self-signed certificate that makes the claims of i; see ClaimsOf.
// It is good from a quarter of an hour before now until three hours after, as those of efs-utils.
func (i *ClientIdentity) Certificate(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	extensions, err := i.extensions(&key.PublicKey, now)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int), Subject: pkix.Name{CommonName: i.Source},
		NotBefore: now.Add(-certificateEarly), NotAfter: now.Add(certificateLife), ExtraExtensions: extensions,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func (i *ClientIdentity) extensions(public *ecdsa.PublicKey, now time.Time) ([]pkix.Extension, error) {
	list := []pkix.Extension{}
	var failed error
	add := func(which int, value any, params string) {
		der, err := asn1.MarshalWithParams(value, params)
		if err != nil && failed == nil {
			failed = fmt.Errorf("transport: extension %d: %w", which, err)
		}
		list = append(list, pkix.Extension{Id: append(append(asn1.ObjectIdentifier{}, claimsArc...), which), Value: der})
	}
	if i.AccessPoint != "" {
		add(claimAccessPoint, i.AccessPoint, "utf8")
	}
	if i.AccessKeyID != "" {
		proof, err := i.proof(public, now)
		if err != nil {
			return nil, err
		}
		add(claimProof, proof, "")
	}
	add(claimFileSystem, i.FileSystem, "utf8")
	add(claimClient, struct {
		Source  string `asn1:"utf8"`
		Version string `asn1:"utf8"`
	}{i.Source, i.Version}, "")
	return list, failed
}

// proofDER is extension 2.
type proofDER struct {
	AccessKeyID string `asn1:"utf8"`
	Signature   []byte
	Time        time.Time `asn1:"utc"`
	Token       string    `asn1:"optional,explicit,tag:0,utf8"`
}

func (i *ClientIdentity) proof(public *ecdsa.PublicKey, now time.Time) (proofDER, error) {
	info, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return proofDER{}, fmt.Errorf("transport: %w", err)
	}
	var c Claims
	if err := c.readKey(info); err != nil {
		return proofDER{}, err
	}
	connect := Connect{
		AccessKeyID: i.AccessKeyID, SessionToken: i.SessionToken, Region: i.Region, FileSystem: i.FileSystem,
		KeyHash: c.KeyHash[:], Time: now.UTC().Truncate(time.Second),
	}
	signature := connect.Sign(i.SecretAccessKey)
	return proofDER{i.AccessKeyID, []byte(hex.EncodeToString(signature[:])), connect.Time, i.SessionToken}, nil
}
