package main

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/nfseal/nfseal/image/lock"
)

// sources are where new versions come from.
var sources = []string{
	"deb http://deb.debian.org/debian " + release + " main",
	"deb http://deb.debian.org/debian " + release + "-updates main",
	"deb http://deb.debian.org/debian-security " + release + "-security main",
}

const lockComment = `The Debian packages of the disk image, made by make image-lock: use, name, version, architecture, SHA-256.
make image takes these and no others. A change of this file is a change of what runs: read it.`

// renewLock solves the image's packages with what the mirror has today, and writes the lock.
func (b *builder) renewLock() error {
	b.step("solve the packages, which takes a minute")
	status := filepath.Join(b.work, "status")
	args := append(options[:len(options):len(options)], "--customize-hook=cp \"$1\"/var/lib/dpkg/status "+status, release, os.DevNull)
	if err := b.do("mmdebstrap", append(args, sources...)...); err != nil {
		return err
	}
	text, err := os.ReadFile(status)
	if err != nil {
		return err
	}
	var all []lock.Package
	for fields := range stanzas(string(text)) {
		all = append(all, lock.Package{Use: lock.UseRoot, Name: fields["Package"], Version: fields["Version"], Architecture: fields["Architecture"]})
	}
	unpack, err := b.newest()
	if err != nil {
		return err
	}
	all = append(all, unpack...)
	b.step("hashes of %d packages", len(all))
	if err := b.addHashes(all); err != nil {
		return err
	}
	var out strings.Builder
	if err := lock.Format(&out, lockComment, all); err != nil {
		return err
	}
	return os.WriteFile(b.lock, []byte(out.String()), 0o644)
}

// newest are the packages that files are taken of, as apt would install them.
func (b *builder) newest() ([]lock.Package, error) {
	show, err := b.output("apt-cache", "show", "--no-all-versions", kernelPackage)
	if err != nil {
		return nil, err
	}
	var kernel string
	for fields := range stanzas(show) {
		kernel, _, _ = strings.Cut(fields["Depends"], " ")
	}
	if kernel == "" {
		return nil, fmt.Errorf("%s needs no kernel", kernelPackage)
	}
	show, err = b.output("apt-cache", "show", "--no-all-versions", kernel, bootPackage)
	if err != nil {
		return nil, err
	}
	var all []lock.Package
	for fields := range stanzas(show) {
		all = append(all, lock.Package{Use: lock.UseUnpack, Name: fields["Package"], Version: fields["Version"], Architecture: fields["Architecture"]})
	}
	return all, nil
}

// addHashes has apt say what the files of packages hash to.
func (b *builder) addHashes(all []lock.Package) error {
	args := []string{"show"}
	for _, p := range all {
		args = append(args, p.Name+"="+p.Version)
	}
	show, err := b.output("apt-cache", args...)
	if err != nil {
		return err
	}
	sums := make(map[string]string)
	for fields := range stanzas(show) {
		if fields["Architecture"] == "all" || fields["Architecture"] == "amd64" {
			sums[fields["Package"]+" "+fields["Version"]] = fields["SHA256"]
		}
	}
	var missing []error
	for i := range all {
		p := &all[i]
		if p.SHA256 = sums[p.Name+" "+p.Version]; p.SHA256 == "" {
			missing = append(missing, fmt.Errorf("apt knows no %s %s: apt-get update", p.Name, p.Version))
		}
	}
	return errors.Join(missing...)
}

// stanzas gives the fields of each paragraph of a Debian control file; of a field only its first line.
func stanzas(text string) iter.Seq[map[string]string] {
	return func(yield func(map[string]string) bool) {
		for paragraph := range strings.SplitSeq(text, "\n\n") {
			fields := make(map[string]string)
			for line := range strings.Lines(paragraph) {
				if name, value, ok := strings.Cut(line, ":"); ok && line[0] != ' ' {
					fields[name] = strings.TrimSpace(value)
				}
			}
			if fields["Package"] != "" && !yield(fields) {
				return
			}
		}
	}
}
