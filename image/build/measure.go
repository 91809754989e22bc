package main

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nfseal/nfseal/appliance/trust"
	"github.com/nfseal/nfseal/image/uki"
)

// kernelPCR is the register that systemd's stub measures a unified kernel image into.
const kernelPCR = 11

// signMeasurement makes a unified kernel image with a signature of what a TPM measures of it. It is made twice: the
// signature is not measured, the key is.
func (b *builder) signMeasurement(parts uki.Parts, out string) error {
	key, err := readPolicyKey(b.policyKey)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	parts.PolicyKey = filepath.Join(b.work, "policy-key.pem")
	if err := os.WriteFile(parts.PolicyKey, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644); err != nil {
		return err
	}
	if err := uki.Build(b.ctx, parts, out); err != nil {
		return err
	}
	pcr, err := uki.PCR11(out)
	if err != nil {
		return err
	}
	signature, err := trust.Sign(key, map[uint][sha256.Size]byte{kernelPCR: pcr})
	if err != nil {
		return fmt.Errorf("%s: %w", b.policyKey, err)
	}
	text, err := json.Marshal(trust.Signatures{SHA256: []trust.Signature{signature}})
	if err != nil {
		return err
	}
	parts.Signatures = filepath.Join(b.work, "policy-signatures.json")
	return errors.Join(os.WriteFile(parts.Signatures, text, 0o644), uki.Build(b.ctx, parts, out))
}

// readPolicyKey reads an RSA key as openssl writes it.
func readPolicyKey(path string) (*rsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is no private key in PEM", path)
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s is no private key that can be read: %w", path, err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is no RSA key", path)
	}
	return key, nil
}
