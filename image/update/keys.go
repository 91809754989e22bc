package update

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nfseal/nfseal/appliance/durable"
)

// ReadKeys reads the public keys of a directory: each file *.pem has one, as openssl pkey -pubout writes it. None is no
// error here: no bundle is good then.
func ReadKeys(dir string) ([]ed25519.PublicKey, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	var keys []ed25519.PublicKey
	for _, file := range files {
		der, err := readPEM(file, "PUBLIC KEY")
		if err != nil {
			return nil, err
		}
		parsed, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			return nil, fmt.Errorf("update: %s: %w", file, err)
		}
		key, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("update: %s is no Ed25519 key", file)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// ReadPrivateKey reads the builder's key, as openssl genpkey -algorithm ed25519 writes it.
func ReadPrivateKey(file string) (ed25519.PrivateKey, error) {
	der, err := readPEM(file, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("update: %s: %w", file, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("update: %s is no Ed25519 key", file)
	}
	return key, nil
}

// EncodePublicKey is the text of a file for ReadKeys.
func EncodePublicKey(key ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

func readPEM(file, kind string) ([]byte, error) {
	text, err := durable.ReadFile(file, maxKeyBytes)
	if err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, errors.New("update: " + file + " has no " + kind + " in PEM")
	}
	return block.Bytes, nil
}
