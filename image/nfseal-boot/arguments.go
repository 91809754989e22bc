package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/trust"
	"golang.org/x/sys/unix"
)

const (
	// tpmDevice is the TPM, through the kernel's resource manager.
	tpmDevice = "/dev/tpmrm0"
	// tpmTable is there if the firmware has a TPM 2.0, before a driver has it.
	tpmTable = "/sys/firmware/acpi/tables/TPM2"
	// defaultPCRs is what a new root key is sealed to: Secure Boot and its keys. Another kernel image, as an upgrade
	// brings, has another PCR 11: for that the builder signs (docs/adr/0035-signed-tpm-policy.md), or who wants that
	// register too says so.
	defaultPCRs = "7"
	// noPCRs seals to what the builder has signed for alone.
	noPCRs = "none"
	// deviceWait is how long a driver, or udev's rule for a device, may take.
	deviceWait = 30 * time.Second
	// maxManifestBytes bounds what is read of the data directory's manifest.
	maxManifestBytes = 1 << 20
)

// A host is what the arguments of the daemon depend on.
type host struct {
	sys       string // usually /sys
	dataDir   string
	stateDir  string
	daemonDir string // of the daemon and the console, in memory
	policyDir string // where stage1 leaves what the builder has signed for this system
	// tpm says why no TPM can be used with a policy, nil if one can.
	tpm func(ctx context.Context, policy trust.Options) error
}

// policy is what the builder has signed for this system; both files are named or none.
func (h *host) policy() trust.Options {
	o := trust.Options{
		PolicyKeyFile:        filepath.Join(h.policyDir, "tpm2-pcr-public-key.pem"),
		PolicySignaturesFile: filepath.Join(h.policyDir, "tpm2-pcr-signature.json"),
	}
	if !exists(o.PolicyKeyFile) || !exists(o.PolicySignaturesFile) {
		return trust.Options{}
	}
	return o
}

// prepareDaemon writes what the daemon is told about this machine. It runs before each start of the daemon.
func prepareDaemon(ctx context.Context) error {
	r, err := readReport(runDir)
	if err != nil {
		return err
	}
	h := &host{sys: "/sys", dataDir: dataDir, stateDir: stateDir, daemonDir: daemonDir, policyDir: policyDir, tpm: probeTPM}
	args, notes, err := h.arguments(ctx, r)
	if err != nil {
		return err
	}
	for _, note := range notes {
		fmt.Fprintln(os.Stderr, "nfseal-boot:", note)
	}
	return writeFile(filepath.Join(runDir, "daemon.env"), []byte("NFSEAL_ARGUMENTS="+strings.Join(args, " ")+"\n"))
}

// arguments are what the daemon is told, and what is to be said of that.
func (h *host) arguments(ctx context.Context, r report) (args, notes []string, err error) {
	args, note, err := h.root(ctx, r.PCRs)
	if err != nil {
		return nil, nil, err
	}
	if note != "" {
		notes = append(notes, note)
	}
	if r.Volume != "" {
		args = append(args, "-volume-device", r.Volume)
	}
	cards, err := h.networkCards()
	if err != nil {
		return nil, nil, err
	}
	if len(cards) == 0 {
		notes = append(notes, "there is no network card to guard")
	}
	for _, name := range cards {
		args = append(args, "-gate-interface", name)
	}
	return args, notes, nil
}

// root says who keeps the root key: who has kept it so far, or in a new data directory the TPM, if it can, and else a
// key file on STATE.
func (h *host) root(ctx context.Context, pcrs string) (args []string, note string, err error) {
	file := []string{"-key-file", filepath.Join(h.stateDir, "root.key")}
	policy := h.policy()
	tpm := []string{"-root", "tpm:" + tpmDevice}
	if policy.PolicySignaturesFile != "" {
		tpm = append(tpm, "-tpm-policy-signatures", policy.PolicySignaturesFile)
	}
	kinds, err := readKinds(filepath.Join(h.dataDir, "nfseal.json"))
	switch {
	case err == nil && slices.Contains(kinds, trust.TPM):
		_ = h.tpm(ctx, policy) // waits for it; the daemon says what is wrong with it
		return tpm, "", nil
	case err == nil:
		return file, "", nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, "", err
	}
	if exists(file[1]) { // a first start that was cut short
		return file, "", nil
	}
	if pcrs == noPCRs && policy.PolicyKeyFile == "" {
		return nil, "", errors.New("the credential nfseal.tpm-pcrs is none, and this image is not signed for a TPM: there would be nothing to seal to")
	}
	if why := h.tpm(ctx, policy); why != nil {
		return file, fmt.Sprintf("the root key is a file on STATE, beside the data: %v", why), nil
	}
	if err := os.Remove(h.recoveryFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", err
	}
	if policy.PolicyKeyFile != "" {
		tpm = append(tpm, "-tpm-policy-key", policy.PolicyKeyFile)
	}
	return append(tpm, "-tpm-pcrs", pcrs, "-recovery-file", h.recoveryFile()), "", nil
}

// recoveryFile is in memory: the console shows it, and then it is no more.
func (h *host) recoveryFile() string { return recoveryFile(h.daemonDir) }

func recoveryFile(dir string) string { return filepath.Join(dir, "recovery.key") }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// readKinds reads who keeps the root key of a data directory, nobody where the key file is the root key itself.
func readKinds(manifest string) ([]trust.Kind, error) {
	f, err := os.Open(manifest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() > maxManifestBytes {
		return nil, fmt.Errorf("%s has %d bytes, %w", manifest, info.Size(), err)
	}
	var m struct {
		Recipients []struct{ Kind trust.Kind }
	}
	if err := json.NewDecoder(f).Decode(&m); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", manifest, err)
	}
	kinds := make([]trust.Kind, 0, len(m.Recipients))
	for _, r := range m.Recipients {
		kinds = append(kinds, r.Kind)
	}
	return kinds, nil
}

// readPCRs reads the credential that says what a TPM seals to, which need not be there.
func readPCRs(credentials string) (string, error) {
	text, err := os.ReadFile(filepath.Join(credentials, "nfseal.tpm-pcrs"))
	if credentials == "" || errors.Is(err, fs.ErrNotExist) {
		return defaultPCRs, nil
	}
	if err != nil {
		return "", err
	}
	pcrs := strings.TrimSpace(string(text))
	if pcrs != noPCRs && (pcrs == "" || strings.Trim(pcrs, "0123456789+") != "") {
		return "", fmt.Errorf("the credential nfseal.tpm-pcrs is %q, not registers as 7+11, or none", text)
	}
	return pcrs, nil
}

// networkCards are the names of those that there are. One that comes later is guarded after the next start.
func (h *host) networkCards() ([]string, error) {
	dir := filepath.Join(h.sys, "class", "net")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if exists(filepath.Join(dir, e.Name(), "device")) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// probeTPM waits for the TPM's driver if the firmware has one, and has the TPM keep something and give it back.
func probeTPM(ctx context.Context, o trust.Options) error {
	if !exists(tpmTable) && !exists(tpmDevice) {
		return errors.New("there is no TPM 2.0")
	}
	if err := await(ctx, tpmDevice); err != nil {
		return fmt.Errorf("the firmware has a TPM 2.0 that the kernel does not show: %w", err)
	}
	o.Kind, o.Where, o.PCRs = trust.TPM, tpmDevice, []uint{7}
	root, err := trust.Open(ctx, o, true)
	if err != nil {
		return err
	}
	wrapped, err := root.Wrap(ctx, make([]byte, trust.KeyBytes), nil)
	if err != nil {
		return errors.Join(err, root.Close())
	}
	_, err = root.Unwrap(ctx, wrapped, nil)
	return errors.Join(err, root.Close())
}

// await waits until there is a file.
func await(ctx context.Context, path string) error {
	return awaitFor(ctx, deviceWait, path, func() bool { return exists(path) })
}

func awaitFor(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not there after %v", what, limit)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// awaitOwner waits until udev has given a device to the daemon's user.
func awaitOwner(ctx context.Context, device string, uid int) error {
	return awaitFor(ctx, deviceWait, device+" of the daemon's user", func() bool {
		var st unix.Stat_t
		return unix.Stat(device, &st) == nil && int(st.Uid) == uid
	})
}
