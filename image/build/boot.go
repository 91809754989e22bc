package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/nfseal/nfseal/image/gpt"
	"github.com/nfseal/nfseal/image/initramfs"
	"github.com/nfseal/nfseal/image/uki"
)

// cmdline is the kernel's, beside the root: part of the signed image, so that nobody can change it at the
// console. Both consoles show what happens; a panic starts the machine again.
const cmdline = "console=tty0 console=ttyS0,115200n8 quiet loglevel=4 panic=30 lockdown=integrity systemd.gpt_auto=0 systemd.show_status=false rd.systemd.show_status=false"

// hashTree puts a hash tree behind the blocks of a file. The salt is made of what is hashed: it need not
// be a secret, it has to be the same in the next build.
func (b *builder) hashTree(file string, blocks int64) (string, error) {
	sum, err := hashFile(file)
	if err != nil {
		return "", err
	}
	out, err := b.output("veritysetup", "format", "--hash=sha256", "--salt="+sum, "--uuid="+gpt.Derive("verity", sum).String(),
		fmt.Sprintf("--data-blocks=%d", blocks), fmt.Sprintf("--hash-offset=%d", blocks*4096), file, file)
	if err != nil {
		return "", err
	}
	hash := regexp.MustCompile(`Root hash:\s+([0-9a-f]{64})`).FindStringSubmatch(out)
	if hash == nil {
		return "", errors.New("veritysetup says no root hash")
	}
	return hash[1], nil
}

// bootFiles makes the unified kernel image for a root file system.
func (b *builder) bootFiles(k *kernel, p programs, r rootImage) (string, error) {
	b.step("kernel image")
	archive, err := b.initramfs(k, p)
	if err != nil {
		return "", err
	}
	parts := uki.Parts{
		Stub: k.stub, Kernel: k.image, Initramfs: archive,
		OSRelease: filepath.Join(b.work, "os-release"), Cmdline: filepath.Join(b.work, "cmdline"),
	}
	err = errors.Join(
		os.WriteFile(parts.OSRelease, []byte(b.osRelease()), 0o644),
		os.WriteFile(parts.Cmdline, []byte("nfseal.root="+r.root.String()+" "+cmdline), 0o644))
	if err != nil {
		return "", err
	}
	out := filepath.Join(b.work, "kernel.efi")
	if b.policyKey == "" {
		return out, uki.Build(b.ctx, parts, out)
	}
	b.step("sign what a TPM measures of it")
	return out, b.signMeasurement(parts, out)
}

// initramfs holds the first stage and its modules.
func (b *builder) initramfs(k *kernel, p programs) (string, error) {
	chosen, err := k.index.Closure(firstModules)
	if err != nil {
		return "", err
	}
	var archive bytes.Buffer
	w := initramfs.NewWriter(&archive)
	for _, dir := range []string{"dev", "proc", "sys", "run", "sysroot"} {
		w.Dir(dir)
	}
	w.Char("dev/console", 0o600, 5, 1)
	stage1, err := os.ReadFile(p.path("stage1"))
	if err != nil {
		return "", err
	}
	w.File("init", 0o755, stage1)
	var order strings.Builder
	for _, name := range chosen {
		module, err := os.ReadFile(filepath.Join(k.modules, name))
		if err != nil {
			return "", err
		}
		w.File("modules/"+path.Base(name), 0o644, module)
		fmt.Fprintln(&order, path.Base(name))
	}
	w.File("modules/order", 0o644, []byte(order.String()))
	if err := w.Close(); err != nil {
		return "", err
	}
	return b.compress(archive.Bytes())
}

// compress halves the archive; a higher level than 12 takes the builder much longer and gains little.
func (b *builder) compress(archive []byte) (string, error) {
	cmd := b.command("zstd", "-12", "--single-thread", "--no-progress", "--quiet", "--stdout")
	cmd.Stdin = bytes.NewReader(archive)
	out, err := outputOf(cmd)
	if err != nil {
		return "", err
	}
	file := filepath.Join(b.work, "initramfs.zst")
	return file, os.WriteFile(file, []byte(out), 0o644)
}

// short is the beginning of a hash, for names.
func short(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:4]) }
