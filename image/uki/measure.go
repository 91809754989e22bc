package uki

import (
	"crypto/sha256"
	"debug/pe"
	"errors"
	"fmt"
	"io"
)

// measured are the sections that systemd's stub measures into PCR 11, in this order (systemd 252,
// src/fundamental/tpm-pcr.h). The signatures of what is measured are not among them.
var measured = []string{".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey"}

// PCR11 is what that register of a TPM (SHA-256 bank) has once an image was started: of each section that it has, the
// name with a NUL behind it, and the content.
func PCR11(image string) (pcr [sha256.Size]byte, err error) {
	f, err := pe.Open(image)
	if err != nil {
		return pcr, fmt.Errorf("uki: %s: %w", image, err)
	}
	defer f.Close()
	for _, name := range measured {
		s := f.Section(name)
		if s == nil {
			continue
		}
		content := sha256.New()
		// What is on the disk behind it fills its last block.
		n, err := io.Copy(content, io.LimitReader(s.Open(), int64(s.VirtualSize)))
		if err == nil && n != int64(s.VirtualSize) {
			err = errors.New("it is larger in memory than in the file")
		}
		if err != nil {
			return pcr, fmt.Errorf("uki: %s: section %s: %w", image, name, err)
		}
		of := sha256.Sum256(append([]byte(name), 0))
		pcr = extend(extend(pcr, of[:]), content.Sum(nil))
	}
	return pcr, nil
}

// extend is what a TPM does with a register (TPM 2.0 Part 1, 17.4).
func extend(pcr [sha256.Size]byte, sum []byte) [sha256.Size]byte {
	return sha256.Sum256(append(pcr[:], sum...))
}
