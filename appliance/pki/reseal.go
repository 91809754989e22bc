package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Reseal gives the private keys in dir, of an authority or of a server certificate, another seal: reseal
// returns it, and whether it is another one than before. write is asked before each file is replaced; without
// it nothing is. It returns how many seals change. No Authority may have dir open.
func Reseal(dir string, reseal func(sealed []byte, ec map[string]string) ([]byte, bool, error), write func() error) (int, error) {
	changes := 0
	for name, purpose := range map[string]string{"ca.json": purposeCA, "server.json": purposeServer} {
		changed, err := resealFile(filepath.Join(dir, name), purpose, reseal, write)
		if err != nil {
			return changes, err
		}
		if changed {
			changes++
		}
	}
	return changes, nil
}

func resealFile(path, purpose string, reseal func([]byte, map[string]string) ([]byte, bool, error), write func() error) (bool, error) {
	var kf keyFile
	err := readJSON(path, &kf)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	cert, err := x509.ParseCertificate(kf.Certificate)
	if err != nil {
		return false, fmt.Errorf("%w: certificate in %s: %w", ErrCorrupt, path, err)
	}
	sealed, changed, err := reseal(kf.SealedKey, sealContext(purpose, cert))
	if err != nil {
		return false, fmt.Errorf("pki: the private key in %s: %w", path, err)
	}
	if !changed || write == nil {
		return changed, nil
	}
	if err := write(); err != nil {
		return true, err
	}
	kf.SealedKey = sealed
	return true, writeJSON(path, kf)
}
