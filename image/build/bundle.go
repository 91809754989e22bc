package main

import (
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nfseal/nfseal/image/update"
)

const (
	bundleName = imageName + ".update"
	// updateKeys is where the image looks for the keys that it takes updates by.
	updateKeys = "usr/lib/nfseal/update-keys"
)

// addKeys puts the public keys for updates into the image, each tried before.
func (b *builder) addKeys(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if b.keys != "" {
		if err := copyTree(b.keys, dir); err != nil {
			return err
		}
	}
	if b.sign != "" {
		key, err := update.ReadPrivateKey(b.sign)
		if err != nil {
			return err
		}
		text, err := update.EncodePublicKey(key.Public().(ed25519.PublicKey))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "builder.pem"), text, 0o644); err != nil {
			return err
		}
	}
	_, err := update.ReadKeys(dir)
	return err
}

// bundle makes what nfseal upgrade takes, if there is a key to sign it with.
func (b *builder) bundle(r rootImage, kernelImage string) error {
	if b.sign == "" {
		// One of an image that was built before is not of this one.
		if err := os.Remove(filepath.Join(b.out, bundleName)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b.step("bundle for upgrades")
	key, err := update.ReadPrivateKey(b.sign)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(b.out, bundleName))
	if err != nil {
		return err
	}
	return errors.Join(update.Make(f, key, b.made, b.version, r.root.String(), kernelImage, r.file), f.Close())
}
