package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/trust"
)

// testHost is one with two network cards, and the loopback interface.
func testHost(t *testing.T, tpm error) *host {
	t.Helper()
	dir := t.TempDir()
	h := &host{
		sys: filepath.Join(dir, "sys"), dataDir: filepath.Join(dir, "data"), stateDir: filepath.Join(dir, "state"), daemonDir: filepath.Join(dir, "run"),
		policyDir: filepath.Join(dir, "policy"),
		tpm:       func(context.Context, trust.Options) error { return tpm },
	}
	for _, name := range []string{"sys/class/net/enp0s2/device", "sys/class/net/enp1s0/device", "sys/class/net/lo", "data", "state", "run", "policy"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestArguments(t *testing.T) {
	const gates = "-gate-interface enp0s2 -gate-interface enp1s0"
	put := func(dir func(*host) string, name, text string) func(*testing.T, *host) {
		return func(t *testing.T, h *host) {
			if err := os.WriteFile(filepath.Join(dir(h), name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	data := func(h *host) string { return h.dataDir }
	state := func(h *host) string { return h.stateDir }
	signed := func(t *testing.T, h *host) {
		for _, name := range []string{"tpm2-pcr-public-key.pem", "tpm2-pcr-signature.json"} {
			put(func(h *host) string { return h.policyDir }, name, "x")(t, h)
		}
	}
	nothing := func(*testing.T, *host) {}
	for name, c := range map[string]struct {
		tpm   error
		setup func(*testing.T, *host)
		r     report
		want  string // STATE and RUN stand for directories
		note  string
	}{
		"first start": {
			nil, nothing, report{Volume: "/dev/v", PCRs: "7+11"},
			"-root tpm:/dev/tpmrm0 -tpm-pcrs 7+11 -recovery-file RUN/recovery.key -volume-device /dev/v " + gates, "",
		},
		"first start without a TPM": {
			errors.New("no TPM here"), nothing, report{PCRs: "7"}, "-key-file STATE/root.key " + gates, "no TPM here",
		},
		"first start that was cut short": {nil, put(state, "root.key", "x"), report{PCRs: "7"}, "-key-file STATE/root.key " + gates, ""},
		"a key file": {
			nil, put(data, "nfseal.json", `{"format":1,"rootKeyId":"x"}`), report{Volume: "/dev/v", PCRs: "7"},
			"-key-file STATE/root.key -volume-device /dev/v " + gates, "",
		},
		"a TPM": {
			nil, put(data, "nfseal.json", `{"recipients":[{"kind":"tpm","wrapped":{}},{"kind":"recovery"}]}`), report{PCRs: "7"},
			"-root tpm:/dev/tpmrm0 " + gates, "",
		},
		"a TPM that is not there": {
			errors.New("gone"), put(data, "nfseal.json", `{"recipients":[{"kind":"tpm"}]}`), report{PCRs: "7"}, "-root tpm:/dev/tpmrm0 " + gates, "",
		},
		"first start of an image that is signed for a TPM": {
			nil, signed, report{PCRs: "none"},
			"-root tpm:/dev/tpmrm0 -tpm-policy-signatures POLICY/tpm2-pcr-signature.json -tpm-policy-key POLICY/tpm2-pcr-public-key.pem -tpm-pcrs none -recovery-file RUN/recovery.key " + gates, "",
		},
		"a later start of one": {
			nil, func(t *testing.T, h *host) {
				signed(t, h)
				put(data, "nfseal.json", `{"recipients":[{"kind":"tpm"}]}`)(t, h)
			}, report{PCRs: "7"}, "-root tpm:/dev/tpmrm0 -tpm-policy-signatures POLICY/tpm2-pcr-signature.json " + gates, "",
		},
		"half of what is signed": {
			nil, put(func(h *host) string { return h.policyDir }, "tpm2-pcr-signature.json", "x"), report{PCRs: "7"},
			"-root tpm:/dev/tpmrm0 -tpm-pcrs 7 -recovery-file RUN/recovery.key " + gates, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := testHost(t, c.tpm)
			c.setup(t, h)
			args, notes, err := h.arguments(t.Context(), c.r)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.NewReplacer(h.stateDir, "STATE", h.daemonDir, "RUN", h.policyDir, "POLICY").Replace(strings.Join(args, " "))
			if got != c.want || !strings.Contains(strings.Join(notes, ";"), c.note) || c.note == "" && notes != nil {
				t.Errorf("%s, %q; not %s, %q", got, notes, c.want, c.note)
			}
		})
	}
}

func TestNothingToSealTo(t *testing.T) {
	if args, _, err := testHost(t, nil).arguments(t.Context(), report{PCRs: noPCRs}); err == nil || !strings.Contains(err.Error(), "nothing to seal to") {
		t.Errorf("%q, %v", args, err)
	}
}

func TestArgumentsOfADamagedManifest(t *testing.T) {
	h := testHost(t, nil)
	if err := os.WriteFile(filepath.Join(h.dataDir, "nfseal.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if args, _, err := h.arguments(t.Context(), report{}); err == nil {
		t.Errorf("a daemon would be started with %q", args)
	}
}

// A start that was cut short has left a recovery key that opens nothing.
func TestOldRecoveryKeyIsRemoved(t *testing.T) {
	h := testHost(t, nil)
	if err := os.WriteFile(h.recoveryFile(), []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if args, _, err := h.arguments(t.Context(), report{PCRs: "7"}); err != nil || !slices.Contains(args, h.recoveryFile()) {
		t.Errorf("%q, %v", args, err)
	}
	if exists(h.recoveryFile()) {
		t.Error("the daemon would refuse to write its recovery key")
	}
}

func TestReadPCRs(t *testing.T) {
	dir := t.TempDir()
	for _, where := range []string{"", dir} {
		if got, err := readPCRs(where); err != nil || got != defaultPCRs {
			t.Errorf("%q: %q, %v", where, got, err)
		}
	}
	for text, want := range map[string]string{"7+11\n": "7+11", "none\n": "none", "": "", "7 -move-root": "", "seven": ""} {
		if err := os.WriteFile(filepath.Join(dir, "nfseal.tpm-pcrs"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readPCRs(dir); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestRecoveryKeyIsShownOnce(t *testing.T) {
	dir := t.TempDir()
	var said string
	say := func(s string) error { said += s; return nil }
	if err := showRecovery(dir, say); err != nil || said != "" {
		t.Errorf("%q, %v", said, err)
	}
	if err := os.WriteFile(recoveryFile(dir), []byte("AAAA-BBBB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("no console")
	if err := showRecovery(dir, func(string) error { return broken }); !errors.Is(err, broken) || !exists(recoveryFile(dir)) {
		t.Errorf("nobody has seen it: %v", err)
	}
	for range 2 {
		if err := showRecovery(dir, say); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Count(said, "AAAA-BBBB") != 1 || exists(recoveryFile(dir)) {
		t.Error(said)
	}
}

func TestNotServing(t *testing.T) {
	dir := t.TempDir()
	if got := notServing(dir); got != "the daemon is starting" {
		t.Error(got)
	}
	if err := os.WriteFile(filepath.Join(dir, "failure"), []byte("the TPM refuses\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := notServing(dir); got != "the daemon does not serve: the TPM refuses" {
		t.Error(got)
	}
}

func TestAwaitFor(t *testing.T) {
	asked := 0
	if err := awaitFor(t.Context(), time.Minute, "it", func() bool { asked++; return asked == 3 }); err != nil || asked != 3 {
		t.Errorf("%d, %v", asked, err)
	}
	if err := awaitFor(t.Context(), time.Millisecond, "it", func() bool { return false }); err == nil || !strings.Contains(err.Error(), "it is not there") {
		t.Error(err)
	}
}
