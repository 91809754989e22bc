package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nfseal/nfseal/image/gpt"
	"github.com/nfseal/nfseal/image/install"
	"github.com/nfseal/nfseal/image/iso"
)

const isoName = imageName + ".iso"

// readme is what who looks at the CD from another system sees.
const readme = "nfseal %s\n\nStart a machine with UEFI from this CD, or from a USB stick with this image on it (dd), to install nfseal.\n"

// iso makes the medium for installations of the image that was built: the same bytes from the first partition on, and before it what
// makes firmware start it from a CD.
func (b *builder) iso() error {
	b.step("ISO")
	from, err := os.Open(filepath.Join(b.out, rawName))
	if err != nil {
		return fmt.Errorf("%w: make image first", err)
	}
	defer from.Close()
	to, err := os.Create(filepath.Join(b.out, isoName))
	if err != nil {
		return err
	}
	if err := errors.Join(b.writeISO(to, from), to.Close()); err != nil {
		return err
	}
	return b.sums()
}

func (b *builder) writeISO(to, from *os.File) error {
	size, err := io.Copy(to, from)
	if err != nil {
		return err
	}
	table, err := gpt.Read(from, size, 512)
	if err != nil {
		return err
	}
	for i := range table.Partitions {
		p := &table.Partitions[i]
		if p.Type != gpt.TypeESP {
			continue
		}
		// The boot loader tells which partition it came from by its identifier.
		p.Name, p.ID = install.InstallerName, gpt.Derive("installer", p.ID.String())
		table.ID = gpt.Derive("installer", table.ID.String())
		offset, _ := table.Range(*p)
		if err := table.Write(to); err != nil {
			return err
		}
		return iso.Write(to, iso.Options{Label: "NFSEAL", SizeBytes: size, ESPOffset: offset, Readme: fmt.Sprintf(readme, b.version), Made: b.made})
	}
	return errors.New("the image has no EFI partition")
}
