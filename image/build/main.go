package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nfseal/nfseal/image/update"
)

// A builder makes one image.
type builder struct {
	ctx     context.Context
	out     string // for the image
	cache   string // for what the next build can use
	work    string // removed at the end
	version string
	lock    string // file
	keys    string // directory with the public keys that the image takes updates by; "" for none
	sign    string // the builder's private key; "" makes no bundle
	// policyKey is the builder's private key that signs for a TPM; "" leaves that out.
	policyKey string
	made      time.Time // of every file

	secureBoot signer
	began      time.Time
	steps      int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	b := &builder{ctx: ctx, began: time.Now()}
	f := flag.NewFlagSet("build", flag.ContinueOnError)
	f.StringVar(&b.out, "out", "out/image", "`directory` for the image")
	f.StringVar(&b.cache, "cache", "out/cache", "`directory` for packages, and what is made of them alone")
	f.StringVar(&b.lock, "lock", lockFile, "`file` that names the packages; the command lock writes it")
	f.StringVar(&b.version, "version", "", "`version` of the image (default that of git)")
	f.StringVar(&b.keys, "update-keys", "", "`directory` with public keys (*.pem, Ed25519) that the image takes updates by")
	f.StringVar(&b.sign, "sign", "", "make a bundle for nfseal upgrade too, signed with the Ed25519 `key` in PEM; the image takes updates by its public half")
	f.StringVar(&b.policyKey, "policy-key", "", "sign what a TPM measures of the image, PCR 11, with this RSA `key` in PEM, of 2048 bits: root keys that one image has sealed, all open that are signed by it")
	f.StringVar(&b.secureBoot.key, "secure-boot-key", "", "sign boot loader and kernel image for Secure Boot with this RSA `key` in PEM")
	f.StringVar(&b.secureBoot.certificate, "secure-boot-cert", "", "PEM `file` with its certificate, which the firmware has to have in db")
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := b.secureBoot.validate(); err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return errors.New("files of the image belong to root: run it as root")
	}
	if err := b.prepare(); err != nil {
		return err
	}
	defer os.RemoveAll(b.work)
	switch f.Arg(0) {
	case "":
		return b.image()
	case "lock":
		return b.renewLock()
	case "vmdk":
		return b.vmdk()
	case "box":
		return b.box()
	case "iso":
		return b.iso()
	}
	return fmt.Errorf("%q is none of lock, vmdk, box and iso", f.Arg(0))
}

// prepare settles directories, version and time.
func (b *builder) prepare() error {
	for _, dir := range []*string{&b.out, &b.cache} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(abs, 0o755); err != nil {
			return err
		}
		*dir = abs
	}
	var err error
	if b.work, err = os.MkdirTemp(b.cache, "work-"); err != nil {
		return err
	}
	// The root of the image is made in it, and users other than root read there while packages are set up.
	if err := os.Chmod(b.work, 0o755); err != nil {
		return err
	}
	if b.version == "" {
		if b.version, err = b.describe(); err != nil {
			return err
		}
	}
	if !update.ValidVersion(b.version) {
		return fmt.Errorf("the version %q has other signs than letters, digits and .~^-", b.version)
	}
	b.made, err = b.sourceDate()
	return err
}

// describe makes a version of the commit. Without a tag it counts commits, so that a later one is a newer version.
func (b *builder) describe() (string, error) {
	out, err := b.output("git", "describe", "--tags", "--dirty")
	if err == nil {
		return strings.TrimPrefix(strings.TrimSpace(out), "v"), nil
	}
	count, err := b.output("git", "rev-list", "--count", "HEAD")
	if err != nil {
		return "", err
	}
	name, err := b.output("git", "describe", "--always", "--dirty")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("0.0.%s-g%s", strings.TrimSpace(count), strings.TrimSpace(name)), nil
}

// sourceDate is the time that all files have (reproducible-builds.org, SOURCE_DATE_EPOCH).
func (b *builder) sourceDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		out, err := b.output("git", "log", "-1", "--format=%ct")
		if err != nil {
			return time.Time{}, err
		}
		text = strings.TrimSpace(out)
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %q is no number of seconds", text)
	}
	return time.Unix(seconds, 0), nil
}

// image does all steps.
func (b *builder) image() error {
	p, err := b.packages()
	if err != nil {
		return err
	}
	k, err := b.kernel(p)
	if err != nil {
		return err
	}
	programs, err := b.programs()
	if err != nil {
		return err
	}
	root, err := b.root(p, k, programs)
	if err != nil {
		return err
	}
	kernelImage, err := b.bootFiles(k, programs, root)
	if err != nil {
		return err
	}
	if kernelImage, err = b.signed(kernelImage); err != nil {
		return err
	}
	if k.loader, err = b.signed(k.loader); err != nil {
		return err
	}
	raw, err := b.disk(k, root, kernelImage)
	if err != nil {
		return err
	}
	if err := b.bundle(root, kernelImage); err != nil {
		return err
	}
	return b.finish(raw, p.all, programs)
}

// step says what is done now.
func (b *builder) step(format string, a ...any) {
	b.steps++
	fmt.Printf("image: %5.1f s  %d. %s\n", time.Since(b.began).Seconds(), b.steps, fmt.Sprintf(format, a...))
}

// command is a program whose times and language do not depend on this machine.
func (b *builder) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if !b.made.IsZero() {
		cmd.Env = append(cmd.Env, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.made.Unix()))
	}
	return cmd
}

// output runs a program and gives its standard output.
func (b *builder) output(name string, args ...string) (string, error) {
	return outputOf(b.command(b.find(name), args...))
}

// find looks a program up where root's are too: PATH of another user may lack them.
func (b *builder) find(name string) string {
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path := filepath.Join(dir, name); isFile(path) {
			return path
		}
	}
	return name
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func outputOf(cmd *exec.Cmd) (string, error) {
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// do is output for programs that have nothing to say.
func (b *builder) do(name string, args ...string) error {
	_, err := b.output(name, args...)
	return err
}
