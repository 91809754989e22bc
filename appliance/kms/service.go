package kms

import (
	"context"
	"errors"
	"fmt"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// Recorder is where wraps and unwraps are recorded: an audit.Log.
type Recorder interface {
	// Append returns nil when e is on stable storage.
	Append(e audit.Event) error
}

// Options says what a Service is made of. Both fields are needed.
type Options struct {
	Root  *RootKey
	Audit Recorder
}

// Validate says what is missing.
func (o *Options) Validate() error {
	switch {
	case o.Root == nil:
		return errors.New("kms: no root key given")
	case o.Audit == nil:
		return errors.New("kms: no audit log given")
	}
	return nil
}

// Service wraps and unwraps under one root key. It implements keyring.Wrapper, and pki.Sealer for
// secrets that are no data keys. Its methods may be called concurrently.
type Service struct{ o Options }

var _ keyring.Wrapper = (*Service)(nil)

// New returns a Service.
func New(o Options) (*Service, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Service{o}, nil
}

// KeyID names the root key that the service wraps under.
func (s *Service) KeyID() KeyID { return s.o.Root.ID() }

// Wrap returns key encrypted and bound to ec, once that is on record.
func (s *Service) Wrap(ctx context.Context, key *keyring.DataKey, ec keyring.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var blob []byte
	var err error
	if useErr := key.Use(func(k []byte) { blob, err = s.o.Root.seal(kindDataKey, k, ec) }); useErr != nil {
		err = fmt.Errorf("kms: %w", useErr)
	}
	if err := s.record("Encrypt", ec, err); err != nil {
		return nil, err
	}
	return blob, nil
}

// Unwrap returns the data key in wrapped, once that is on record. The caller closes it.
func (s *Service) Unwrap(ctx context.Context, wrapped []byte, ec keyring.Context) (*keyring.DataKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	plaintext, err := s.o.Root.open(kindDataKey, wrapped, ec)
	defer clear(plaintext)
	if err == nil && len(plaintext) != keyring.KeyBytes {
		err = ErrInvalidCiphertext
	}
	if err := s.record("Decrypt", ec, err); err != nil {
		return nil, err
	}
	key, err := keyring.FromBytes(plaintext)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return key, nil
}

// Seal encrypts a secret of the daemon, at most 64 KiB, bound to the encryption context ec.
func (s *Service) Seal(ctx context.Context, plaintext []byte, ec map[string]string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(plaintext) > maxSecretBytes {
		return nil, fmt.Errorf("kms: secret of %d bytes, at most %d are allowed", len(plaintext), maxSecretBytes)
	}
	blob, err := s.o.Root.seal(kindSecret, plaintext, ec)
	if err := s.record("Encrypt", ec, err); err != nil {
		return nil, err
	}
	return blob, nil
}

// Open is the inverse of Seal for the same context. The caller wipes what it gets.
func (s *Service) Open(ctx context.Context, sealed []byte, ec map[string]string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	plaintext, err := s.o.Root.open(kindSecret, sealed, ec)
	if err := s.record("Decrypt", ec, err); err != nil {
		clear(plaintext)
		return nil, err
	}
	return plaintext, nil
}

// record writes what was done, or tried, and returns why the caller must not have it.
func (s *Service) record(operation string, ec keyring.Context, failure error) error {
	return record(s.o.Audit, operation, []*RootKey{s.o.Root}, ec, failure)
}

// errorCode is the name that AWS KMS gives an error.
func errorCode(err error) string {
	var f *Fault
	switch {
	case errors.As(err, &f):
		return f.Code
	case errors.Is(err, ErrIncorrectKey):
		return "IncorrectKeyException"
	case errors.Is(err, ErrInvalidCiphertext), errors.Is(err, ErrNewerFormat):
		return "InvalidCiphertextException"
	default:
		return "KMSInternalException"
	}
}
