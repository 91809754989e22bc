package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/nfseal/nfseal/image/lock"
)

const (
	lockFile = "image/packages.lock"
	release  = "bookworm"
)

// wanted are the packages that the root file system is asked to have; what is essential in Debian and what
// they need comes with them.
var wanted = []string{
	"systemd", "systemd-sysv", "udev", "kmod", "e2fsprogs",
	"systemd-resolved", "systemd-timesyncd",
}

// Packages that some files are taken of.
const (
	kernelPackage = "linux-image-amd64" // which needs the one with the kernel
	bootPackage   = "systemd-boot-efi"
)

// options are for every run of mmdebstrap: what it makes depends on the packages alone.
var options = []string{
	"--quiet", "--mode=root", "--variant=essential", "--include=" + strings.Join(wanted, ","),
	"--aptopt=APT::Install-Recommends \"false\"",
	"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
	"--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/info/*",
	// The daemon's user. The number stays: it owns files on disks.
	"--customize-hook=chroot \"$1\" useradd --system --uid 900 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin nfseal",
}

// baseTime is the time of the files that packages bring.
const baseTime = "SOURCE_DATE_EPOCH=1700000000"

// debs are the locked packages and their files.
type debs struct {
	all  []lock.Package
	text []byte // of the lock
	dir  string // of files named by their hash
}

func (d debs) file(p lock.Package) string { return filepath.Join(d.dir, p.SHA256+".deb") }

// packages reads the lock and fetches what is missing.
func (b *builder) packages() (debs, error) {
	d := debs{dir: filepath.Join(b.cache, "debs")}
	var err error
	if d.text, err = os.ReadFile(b.lock); err != nil {
		return d, err
	}
	if d.all, err = lock.Parse(bytes.NewReader(d.text)); err != nil {
		return d, err
	}
	var missing []lock.Package
	for _, p := range d.all {
		sum, err := hashFile(d.file(p))
		if err != nil && !os.IsNotExist(err) {
			return d, err
		}
		if sum != p.SHA256 {
			missing = append(missing, p)
		}
	}
	b.step("%d packages, %d of them to fetch", len(d.all), len(missing))
	if err := b.fetch(d, missing); err != nil {
		return d, fmt.Errorf("packages of %s: %w", b.lock, err)
	}
	return d, nil
}

// fetch has apt get packages, and takes only files with a hash of the lock.
func (b *builder) fetch(d debs, missing []lock.Package) error {
	if len(missing) == 0 {
		return nil
	}
	dir := filepath.Join(b.work, "fetch")
	args := []string{"download", "-q", "-o", "APT::Sandbox::User=root"}
	for _, p := range missing {
		args = append(args, p.Name+":"+strings.Replace(p.Architecture, "all", "amd64", 1)+"="+p.Version)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cmd := b.command("apt-get", args...)
	cmd.Dir = dir
	if _, err := outputOf(cmd); err != nil {
		return fmt.Errorf("%w; a version that the mirror no longer has: make image-lock, and look at what has changed", err)
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return err
	}
	return d.take(dir, missing)
}

// take moves fetched files to where their hash says.
func (d debs) take(dir string, missing []lock.Package) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	got := make(map[string]bool)
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		sum, err := hashFile(path)
		if err != nil {
			return err
		}
		got[sum] = true
		if err := os.Rename(path, filepath.Join(d.dir, sum+".deb")); err != nil {
			return err
		}
	}
	for _, p := range missing {
		if !got[p.SHA256] {
			return fmt.Errorf("%s %s as the mirror has it has another hash", p.Name, p.Version)
		}
	}
	return nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// base gives the root file system as the packages make it, in a tar.
func (b *builder) base(d debs) (string, error) {
	h := sha256.New()
	fmt.Fprint(h, string(d.text), options, baseTime)
	tar := filepath.Join(b.cache, "base-"+hex.EncodeToString(h.Sum(nil))[:16]+".tar")
	if isFile(tar) {
		b.step("root file system of the packages, from the cache")
		return tar, nil
	}
	b.step("root file system of the packages, which takes a minute")
	repository, err := b.repository(d)
	if err != nil {
		return "", err
	}
	unfinished := filepath.Join(b.work, "base.tar")
	args := append(options[:len(options):len(options)], release, unfinished, "deb [trusted=yes] copy://"+repository+" ./")
	cmd := b.command("mmdebstrap", args...)
	cmd.Env = append(cmd.Env, baseTime)
	if _, err := outputOf(cmd); err != nil {
		return "", err
	}
	return tar, os.Rename(unfinished, tar)
}

// repository makes one of the locked packages and no others: their hashes have been checked.
func (b *builder) repository(d debs) (string, error) {
	dir := filepath.Join(b.work, "repository")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	var index strings.Builder
	for _, p := range lock.Of(d.all, lock.UseRoot) {
		name := p.SHA256 + ".deb"
		if err := os.Link(d.file(p), filepath.Join(dir, name)); err != nil {
			return "", err
		}
		fields, err := b.output("dpkg-deb", "--field", d.file(p))
		if err != nil {
			return "", err
		}
		info, err := os.Stat(d.file(p))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&index, "%s\nFilename: ./%s\nSize: %d\nSHA256: %s\n\n", strings.TrimSpace(fields), name, info.Size(), p.SHA256)
	}
	// Without a release's name mmdebstrap finds no essential packages.
	about := fmt.Sprintf("Suite: %s\nCodename: %s\nSHA256:\n %x %d Packages\n", release, release, sha256.Sum256([]byte(index.String())), index.Len())
	return dir, errors.Join(
		os.WriteFile(filepath.Join(dir, "Packages"), []byte(index.String()), 0o644),
		os.WriteFile(filepath.Join(dir, "Release"), []byte(about), 0o644))
}
