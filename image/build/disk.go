package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nfseal/nfseal/image/gpt"
	"github.com/nfseal/nfseal/image/lock"
	"github.com/nfseal/nfseal/image/sbom"
	"github.com/nfseal/nfseal/image/update"
)

const (
	imageName = "nfseal"
	// espBytes has room for two kernel images and the boot loader.
	espBytes = 64 << 20
	// edgeBytes is before the first partition and behind the last, for the tables.
	edgeBytes = 1 << 20
	mib       = 1 << 20
)

// loaderConf starts the newest kernel image at once; its command line can't be changed at the console.
const loaderConf = "timeout 0\neditor no\n"

// disk puts everything into one file, as on a disk.
func (b *builder) disk(k *kernel, r rootImage, kernelImage string) (string, error) {
	b.step("disk image")
	esp, err := b.esp(k, r, kernelImage)
	if err != nil {
		return "", err
	}
	raw := filepath.Join(b.out, rawName)
	size := int64(2*edgeBytes) + espBytes + (r.size+mib-1)/mib*mib
	f, err := os.Create(raw)
	if err != nil {
		return "", err
	}
	err = errors.Join(f.Truncate(size), fill(f, size, esp, r))
	return raw, errors.Join(err, f.Close())
}

// fill writes partition table and partitions.
func fill(f *os.File, size int64, esp string, r rootImage) error {
	hash := r.root.String()
	table, err := gpt.New(gpt.Derive("disk", hash), size, 512)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		kind, id gpt.GUID
		name     string
		size     int64
		file     string
	}{
		{gpt.TypeESP, gpt.Derive("esp", hash), "esp", espBytes, esp},
		{gpt.TypeRoot, gpt.FromHash(r.root.Hash), "nfseal-root-" + short(r.root.Hash), r.size, r.file},
	} {
		p, err := table.Add(part.kind, part.id, part.name, part.size)
		if err != nil {
			return err
		}
		offset, _ := table.Range(p)
		if err := copyInto(f, offset, part.file); err != nil {
			return err
		}
	}
	return table.Write(f)
}

// copyInto copies a file to an offset of f, and leaves holes where it has zeros.
func copyInto(f *os.File, offset int64, file string) error {
	from, err := os.Open(file)
	if err != nil {
		return err
	}
	defer from.Close()
	buffer, zeros := make([]byte, mib), make([]byte, mib)
	for {
		n, err := io.ReadFull(from, buffer)
		if n > 0 && !bytes.Equal(buffer[:n], zeros[:n]) {
			if _, err := f.WriteAt(buffer[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// esp makes the EFI system partition.
func (b *builder) esp(k *kernel, r rootImage, kernelImage string) (string, error) {
	file := filepath.Join(b.work, "esp.fat")
	conf := filepath.Join(b.work, "loader.conf")
	if err := os.WriteFile(conf, []byte(loaderConf), 0o644); err != nil {
		return "", err
	}
	id := fmt.Sprintf("%08x", binary.BigEndian.Uint32(r.root.Hash[:]))
	if err := b.do("mkfs.vfat", "-C", file, "-F", "32", "-s", "1", "-i", id, "-n", "NFSEAL-ESP", "--invariant", fmt.Sprint(espBytes/1024)); err != nil {
		return "", err
	}
	if err := b.do("mmd", "-i", file, "::/EFI", "::/EFI/BOOT", "::/EFI/Linux", "::/loader"); err != nil {
		return "", err
	}
	for _, c := range [][2]string{
		{k.loader, "::/EFI/BOOT/BOOTX64.EFI"},
		{conf, "::/loader/loader.conf"},
		{kernelImage, "::/EFI/Linux/" + update.EntryName(b.version)},
	} {
		if err := b.do("mcopy", "-i", file, c[0], c[1]); err != nil {
			return "", err
		}
	}
	return file, nil
}

// finish makes what stands beside the raw image.
func (b *builder) finish(raw string, all []lock.Package, p programs) error {
	b.step("qcow2, SBOM and hashes")
	qcow2 := filepath.Join(b.out, qcow2Name)
	if err := b.do("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-m", "1", "-c", "-o", "compression_type=zstd", raw, qcow2); err != nil {
		return err
	}
	sum, err := hashFile(raw)
	if err != nil {
		return err
	}
	modules, err := sbom.Modules(p.path("nfseald"), p.path("nfseal"), p.path("nfseal-boot"), p.path("stage1"))
	if err != nil {
		return err
	}
	text, err := sbom.Document(sbom.Image{Name: imageName, Version: b.version, SHA256: sum, Made: b.made, Packages: all, Modules: modules})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.out, imageName+".spdx.json"), text, 0o644); err != nil {
		return err
	}
	// Other formats of an image that was built before are not of this one.
	for _, name := range []string{vmdkName, boxName, isoName} {
		if err := os.Remove(filepath.Join(b.out, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return b.sums()
}

// outputs are all files that may stand in the directory for the image.
var outputs = []string{boxName, isoName, qcow2Name, rawName, imageName + ".spdx.json", bundleName, vmdkName}

// sums writes SHA256SUMS of those that are there, and says what there is.
func (b *builder) sums() error {
	var lines strings.Builder
	for _, name := range outputs {
		path := filepath.Join(b.out, name)
		if !isFile(path) {
			continue
		}
		sum, err := hashFile(path)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%s  %s\n", sum, name)
		fmt.Printf("image: %s, %.1f MiB, %s\n", path, float64(info.Size())/mib, sum)
	}
	return os.WriteFile(filepath.Join(b.out, "SHA256SUMS"), []byte(lines.String()), 0o644)
}
