package oidc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-jose/go-jose/v4"
)

// key is one that a provider signs with, and the algorithms that it may do so by.
type key struct {
	public any // *rsa.PublicKey or *ecdsa.PublicKey
	by     []jose.SignatureAlgorithm
}

// algorithms are all that there are here: neither none nor those with a shared secret.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}

// readKeys reads a JSON Web Key Set: those of its keys that sign by one of algorithms, by name. Others are passed over,
// but for private keys: who keeps one here has made a mistake.
func readKeys(file string) (map[string]key, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("oidc: %s is not a JSON Web Key Set of at most %d keys", file, maxKeys)
	}
	keys := make(map[string]key)
	for i, text := range set.Keys {
		name, k, err := readKey(text)
		if err != nil {
			return nil, fmt.Errorf("oidc: key %d of %s %w", i+1, file, err)
		}
		if k == nil {
			continue
		}
		if _, there := keys[name]; there {
			return nil, fmt.Errorf("oidc: two keys of %s have the kid %q", file, name)
		}
		keys[name] = *k
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("oidc: no key of %s can be used: RSA or EC, with a kid, for signatures", file)
	}
	return keys, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFileBytes)
	}
	return text, nil
}

// readKey returns nil for a key that is for something else.
func readKey(text []byte) (name string, k *key, err error) {
	var about struct {
		Type    string           `json:"kty"`
		Use     string           `json:"use"`
		Name    string           `json:"kid"`
		By      string           `json:"alg"`
		Private *json.RawMessage `json:"d"`
	}
	if err := json.Unmarshal(text, &about); err != nil {
		return "", nil, errors.New("is not a JSON Web Key")
	}
	switch {
	case about.Private != nil:
		return "", nil, errors.New("is a private key, which is the provider's alone")
	case about.Type != "RSA" && about.Type != "EC", about.Use != "" && about.Use != "sig", about.Name == "":
		return "", nil, nil
	}
	var parsed jose.JSONWebKey
	if err := parsed.UnmarshalJSON(text); err != nil || !parsed.Valid() {
		return "", nil, errors.New("can't be read")
	}
	k = &key{public: parsed.Key}
	if k.by, err = algorithmsOf(parsed.Key); err != nil {
		return "", nil, err
	}
	if about.By == "" {
		return about.Name, k, nil
	}
	for _, by := range k.by {
		if string(by) == about.By {
			return about.Name, &key{parsed.Key, []jose.SignatureAlgorithm{by}}, nil
		}
	}
	return "", nil, nil
}

// algorithmsOf are those that fit a key; RFC 7518 §3.1.
func algorithmsOf(public any) ([]jose.SignatureAlgorithm, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("has %d bits: %d to %d are taken", bits, minRSABits, maxRSABits)
		}
		return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []jose.SignatureAlgorithm{jose.ES256}, nil
		case elliptic.P384():
			return []jose.SignatureAlgorithm{jose.ES384}, nil
		case elliptic.P521():
			return []jose.SignatureAlgorithm{jose.ES512}, nil
		}
	}
	return nil, errors.New("is neither RSA nor EC on P-256, P-384 or P-521")
}
