package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nfseal/nfseal/image/vmdk"
)

const (
	rawName   = imageName + ".raw"
	qcow2Name = imageName + ".qcow2"
	vmdkName  = imageName + ".vmdk"
	boxName   = imageName + ".box"
	// boxVagrantfile is what a box says of its machine.
	boxVagrantfile = "image/vagrant/box/Vagrantfile"
)

// vmdk makes another format of the image that was built.
func (b *builder) vmdk() error {
	b.step("VMDK")
	from, err := os.Open(filepath.Join(b.out, rawName))
	if err != nil {
		return fmt.Errorf("%w: make image first", err)
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	to, err := os.Create(filepath.Join(b.out, vmdkName))
	if err != nil {
		return err
	}
	if err := errors.Join(vmdk.Write(to, from, info.Size(), vmdkName), to.Close()); err != nil {
		return err
	}
	return b.sums()
}

// box makes a Vagrant box for libvirt of the image that was built (Vagrant, Box File Format).
func (b *builder) box() error {
	b.step("Vagrant box")
	to, err := os.Create(filepath.Join(b.out, boxName))
	if err != nil {
		return err
	}
	if err := errors.Join(writeBox(to, b.made, filepath.Join(b.out, rawName), filepath.Join(b.out, qcow2Name), boxVagrantfile), to.Close()); err != nil {
		return err
	}
	return b.sums()
}

// boxMetadata is what vagrant-libvirt reads of a box.
type boxMetadata struct {
	Provider    string `json:"provider"`
	Format      string `json:"format"`
	VirtualSize int64  `json:"virtual_size"` // GiB, rounded up
}

// writeBox puts a box together; the disk in it is compressed already.
func writeBox(w io.Writer, made time.Time, raw, qcow2, vagrantfile string) error {
	info, err := os.Stat(raw)
	if err != nil {
		return fmt.Errorf("%w: make image first", err)
	}
	metadata, err := json.Marshal(boxMetadata{Provider: "libvirt", Format: "qcow2", VirtualSize: (info.Size() + 1<<30 - 1) >> 30})
	if err != nil {
		return err
	}
	settings, err := os.ReadFile(vagrantfile)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, member := range []struct {
		name string
		text []byte
	}{{"metadata.json", append(metadata, '\n')}, {"Vagrantfile", settings}} {
		if err := t.WriteHeader(boxHeader(member.name, int64(len(member.text)), made)); err != nil {
			return err
		}
		if _, err := t.Write(member.text); err != nil {
			return err
		}
	}
	disk, err := os.Open(qcow2)
	if err != nil {
		return err
	}
	defer disk.Close()
	if info, err = disk.Stat(); err != nil {
		return err
	}
	if err := t.WriteHeader(boxHeader("box.img", info.Size(), made)); err != nil {
		return err
	}
	_, err = io.Copy(t, disk)
	return errors.Join(err, t.Close(), z.Close())
}

func boxHeader(name string, size int64, made time.Time) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: made, Format: tar.FormatUSTAR}
}
