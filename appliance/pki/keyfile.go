package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// keyFile is a certificate with its sealed private key, as ca.json and server.json hold it.
type keyFile struct {
	Format      int    `json:"format"`
	Certificate []byte `json:"certificate"` // DER
	SealedKey   []byte `json:"sealed_key"`  // PKCS #8, sealed
}

// Purposes of a key, part of what its seal is bound to.
const (
	purposeCA     = "ca"
	purposeServer = "server"
)

func sealContext(purpose string, cert *x509.Certificate) map[string]string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return map[string]string{
		"nfseal:pki:purpose":           purpose,
		"nfseal:pki:public-key-sha256": hex.EncodeToString(sum[:]),
	}
}

func writeKeyFile(ctx context.Context, path, purpose string, s Sealer, cert *x509.Certificate, key *ecdsa.PrivateKey) error {
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	defer clear(plain)
	sealed, err := s.Seal(ctx, plain, sealContext(purpose, cert))
	if err != nil {
		return fmt.Errorf("pki: seal the private key for %s: %w", path, err)
	}
	return writeJSON(path, keyFile{Format: formatVersion, Certificate: cert.Raw, SealedKey: sealed})
}

func readKeyFile(ctx context.Context, path, purpose string, s Sealer) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	var kf keyFile
	if err := readJSON(path, &kf); err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(kf.Certificate)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: certificate in %s: %w", ErrCorrupt, path, err)
	}
	plain, err := s.Open(ctx, kf.SealedKey, sealContext(purpose, cert))
	if err != nil {
		return nil, nil, fmt.Errorf("pki: open the private key in %s: %w", path, err)
	}
	defer clear(plain)
	parsed, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		// The error could quote the key's bytes.
		return nil, nil, fmt.Errorf("%w: private key in %s doesn't parse", ErrCorrupt, path)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, fmt.Errorf("%w: private key in %s isn't that of the certificate", ErrCorrupt, path)
	}
	return cert, key, nil
}
