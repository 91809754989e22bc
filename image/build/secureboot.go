package main

import (
	"errors"
	"fmt"
	"path/filepath"
)

// A signer is who signs EFI programs for Secure Boot; the zero signer signs nothing.
type signer struct {
	key, certificate string // PEM files
}

func (s signer) validate() error {
	if (s.key == "") != (s.certificate == "") {
		return errors.New("signing for Secure Boot needs both -secure-boot-key and -secure-boot-cert")
	}
	return nil
}

// signed gives the EFI program with a signature that is checked at once, or the program itself if nobody signs. The time is
// part of a signature: signed images are not the same bytes twice.
func (b *builder) signed(program string) (string, error) {
	if b.secureBoot.key == "" {
		return program, nil
	}
	b.step("sign %s for Secure Boot", filepath.Base(program))
	out := filepath.Join(b.work, filepath.Base(program)+".signed")
	if err := b.do("sbsign", "--key", b.secureBoot.key, "--cert", b.secureBoot.certificate, "--output", out, program); err != nil {
		return "", err
	}
	if err := b.do("sbverify", "--cert", b.secureBoot.certificate, out); err != nil {
		return "", fmt.Errorf("the certificate does not belong to the key: %w", err)
	}
	return out, nil
}
