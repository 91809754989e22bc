package trust

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/nfseal/nfseal/appliance/durable"
)

// What can be wrong with a key file.
var (
	ErrNoKeyFile    = errors.New("there is no key file")
	ErrKeyFileMode  = errors.New("the key file can be read by others")
	ErrKeyFileShape = errors.New("the key file holds no key")
)

// maxKeyFileBytes bounds what is read of a key file: 64 digits and a line end, with room to tell a file
// that is no key.
const maxKeyFileBytes = 128

// CreateKeyFile makes a new key at path, which must not exist, with mode 0600, durably.
func CreateKeyFile(path string) error {
	var secret [KeyBytes]byte
	rand.Read(secret[:]) // never fails (crypto/rand)
	defer clear(secret[:])
	text := append(hex.AppendEncode(nil, secret[:]), '\n')
	defer clear(text)
	if err := durable.CreateFile(path, text, 0o600); err != nil {
		return fmt.Errorf("trust: key file can't be made: %w", err)
	}
	return nil
}

// ReadKeyFile returns the KeyBytes bytes of the key at path, which the caller wipes. It writes nothing.
func ReadKeyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s", ErrNoKeyFile, path)
	}
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o, it must be 0600 (chmod 600 %s)",
			ErrKeyFileMode, path, info.Mode().Perm(), path)
	}
	text, err := durable.ReadFile(path, maxKeyFileBytes)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	defer clear(text)
	secret, err := decodeKey(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, path)
	}
	return secret, nil
}

// decodeKey takes both forms of a key file and returns a slice of its own.
func decodeKey(text []byte) ([]byte, error) {
	if len(text) == KeyBytes {
		return bytes.Clone(text), nil
	}
	digits := bytes.TrimRight(text, "\r\n")
	secret := make([]byte, KeyBytes)
	if len(digits) != 2*KeyBytes {
		return nil, ErrKeyFileShape
	}
	if _, err := hex.Decode(secret, digits); err != nil {
		clear(secret)
		return nil, ErrKeyFileShape // the cause would quote a byte of the key
	}
	return secret, nil
}

// keyFile wraps under the key in a file.
type keyFile struct {
	path   string
	secret []byte
}

var _ Root = (*keyFile)(nil)

// openKeyFile reads the file, which must be there: where one is wanted for something new, it is made
// beforehand, by whoever says where.
func openKeyFile(path string) (Root, error) {
	secret, err := ReadKeyFile(path)
	if err != nil {
		return nil, err
	}
	return &keyFile{path, secret}, nil
}

// Kind implements Root.
func (k *keyFile) Kind() Kind { return KeyFile }

// key derives the key of one wrapped secret.
func (k *keyFile) key(salt []byte) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, k.secret, salt, "nfseal key file v1", KeyBytes)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	return key, nil
}

// Wrap implements Root.
func (k *keyFile) Wrap(_ context.Context, secret, aad []byte) ([]byte, error) {
	return sealSalted(KeyFile, k.key, secret, aad)
}

// Unwrap implements Root.
func (k *keyFile) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	secret, err := openSalted(KeyFile, k.key, wrapped, aad)
	if errors.Is(err, ErrRefused) {
		return nil, fmt.Errorf("%w: the key file %s is not the one that this was made with; put that one back", err, k.path)
	}
	return secret, err
}

// Describe implements Root.
func (k *keyFile) Describe() string { return DescribeKeyFile(k.path) }

// DescribeKeyFile is Root.Describe of a key file.
func DescribeKeyFile(path string) string {
	return "the key file " + path + ": who takes the data without it reads nothing, who takes both reads all"
}

// Close implements Root.
func (k *keyFile) Close() error {
	clear(k.secret)
	return nil
}
