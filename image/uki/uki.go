package uki

import (
	"context"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Parts are the files that an image is made of.
type Parts struct {
	Stub      string // linuxx64.efi.stub
	OSRelease string
	Cmdline   string // ends without a newline
	Kernel    string // bzImage
	Initramfs string
	// PolicyKey is the public key, in PEM, of who signs for what a TPM measures of the image, and Signatures what was
	// signed; "" for none.
	PolicyKey, Signatures string
}

// A section is a file and where it is in memory.
type section struct {
	name, file string
	address    uint64
}

// Build writes the image to out.
func Build(ctx context.Context, p Parts, out string) error {
	sections, err := p.place()
	if err != nil {
		return fmt.Errorf("uki: %w", err)
	}
	var args []string
	for _, s := range sections {
		args = append(args, "--add-section", s.name+"="+s.file, "--change-section-vma", fmt.Sprintf("%s=%#x", s.name, s.address),
			"--set-section-flags", s.name+"=contents,alloc,load,readonly,data")
	}
	cmd := exec.CommandContext(ctx, "objcopy", append(args, p.Stub, out)...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("uki: objcopy: %w: %s", err, strings.TrimSpace(string(text)))
	}
	return errors.Join(forgetTime(out), Check(out))
}

// place puts the parts behind the stub's own sections, the largest last: the stub of systemd 252 needs the
// kernel before the initramfs, with nothing that it may unpack over behind it.
func (p Parts) place() ([]section, error) {
	f, err := pe.Open(p.Stub)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	header, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		return nil, fmt.Errorf("%s is no 64-bit program", p.Stub)
	}
	next, align := header.ImageBase, uint64(max(header.SectionAlignment, 4096))
	for _, s := range f.Sections {
		next = max(next, header.ImageBase+uint64(s.VirtualAddress)+uint64(s.VirtualSize))
	}
	sections := []section{{".osrel", p.OSRelease, 0}, {".cmdline", p.Cmdline, 0}}
	for _, s := range []section{{".pcrpkey", p.PolicyKey, 0}, {".pcrsig", p.Signatures, 0}} {
		if s.file != "" {
			sections = append(sections, s)
		}
	}
	sections = append(sections, section{".linux", p.Kernel, 0}, section{".initrd", p.Initramfs, 0})
	for i := range sections {
		info, err := os.Stat(sections[i].file)
		if err != nil {
			return nil, err
		}
		next = (next + align - 1) / align * align
		sections[i].address = next
		next += uint64(info.Size())
	}
	return sections, nil
}

// forgetTime clears the time stamp of the COFF header and the checksum that it goes into; EFI asks for
// neither.
func forgetTime(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("uki: %w", err)
	}
	defer f.Close()
	var at [4]byte
	if _, err := f.ReadAt(at[:], 0x3c); err != nil {
		return fmt.Errorf("uki: %w", err)
	}
	header := int64(binary.LittleEndian.Uint32(at[:]))
	for _, offset := range []int64{header + 8, header + 24 + 64} { // TimeDateStamp, CheckSum
		if _, err := f.WriteAt(make([]byte, 4), offset); err != nil {
			return fmt.Errorf("uki: %w", err)
		}
	}
	return nil
}

// Check says whether a file has the sections of an image, none over another.
func Check(path string) error {
	f, err := pe.Open(path)
	if err != nil {
		return fmt.Errorf("uki: %s: %w", path, err)
	}
	defer f.Close()
	var end uint32
	for _, s := range f.Sections {
		if s.VirtualAddress < end {
			return fmt.Errorf("uki: %s: section %s is over the one before it", path, s.Name)
		}
		end = s.VirtualAddress + s.VirtualSize
	}
	for _, name := range []string{".osrel", ".cmdline", ".linux", ".initrd"} {
		if f.Section(name) == nil {
			return fmt.Errorf("uki: %s has no section %s", path, name)
		}
	}
	return nil
}
