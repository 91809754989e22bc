package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/image/firstboot"
)

func TestReadChoice(t *testing.T) {
	dir := t.TempDir()
	for _, where := range []string{"", dir} {
		if c, err := readChoice(where); err != nil || c != (firstboot.Choice{}) {
			t.Errorf("%q: %+v, %v", where, c, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "nfseal.disk"), []byte("wwid:eui.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := readChoice(dir); err != nil || c.WWID != "eui.1" {
		t.Errorf("%+v, %v", c, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "nfseal.disk"), []byte("sda"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readChoice(dir); err == nil {
		t.Error("a choice that is none is taken for no choice")
	}
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	want := report{Ready: true, Disk: "nvme1n1", Volume: "/dev/nvme1n1p3", PCRs: "7"}
	if err := writeReport(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := readReport(dir); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestView(t *testing.T) {
	v := view{state: "the daemon is starting"}
	if text := v.text(); !strings.Contains(text, "the daemon is starting") || !strings.Contains(text, "none yet") || strings.Contains(text, "SHA-256") {
		t.Error(text)
	}
	v = view{state: "serving", addresses: []string{"192.0.2.1", "2001:db8::1"}, apiPrint: "AA", caPrint: "BB"}
	for _, want := range []string{"https://192.0.2.1:2051\n", "https://[2001:db8::1]:2051\n", "SHA-256 AA\n", "SHA-256 BB\n"} {
		if text := v.text(); !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if got := fingerprint([]byte("abc")); !strings.HasPrefix(got, "BA:78:16:BF:") || strings.HasSuffix(got, ":") || len(got) != 95 {
		t.Error(got)
	}
	status := api.Status{Units: []api.UnitStatus{{ID: "u", State: "stopped", Reason: "a failed sync"}}}
	if got := describe(status, "sda"); !strings.Contains(got, "a failed sync") {
		t.Error(got)
	}
}

func TestPrintTo(t *testing.T) {
	dev := t.TempDir()
	if err := os.WriteFile(filepath.Join(dev, "ttyS0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := printTo([]string{"tty0", "ttyS0"}, dev, "words\n"); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(dev, "ttyS0")); string(got) != "words\n" {
		t.Errorf("%q, %v", got, err)
	}
	if err := printTo([]string{"tty0"}, dev, "words\n"); err == nil {
		t.Error("nobody has seen it, and there is no error")
	}
}

// daemon answers as the daemon's socket does for users, and keeps what it is asked.
func daemon(t *testing.T) (*api.Client, *[]string) {
	t.Helper()
	client, _, asked := answeringAll(t)
	return client, asked
}

// answering gives a client whose calls are answered by the map.
func answering(t *testing.T) (*api.Client, map[string]any) {
	t.Helper()
	client, answers, _ := answeringAll(t)
	return client, answers
}

func answeringAll(t *testing.T) (*api.Client, map[string]any, *[]string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "api.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	answers := map[string]any{
		"GET /nfseal/v1/users":                    api.ListUsersResponse{},
		"POST /nfseal/v1/users/admin/access-keys": api.AccessKeyDescription{AccessKeyID: "AKIA1", SecretAccessKey: "secret"},
		"POST /nfseal/v1/users":                   struct{}{},
		"PUT /nfseal/v1/users/admin/policies/all": struct{}{},
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := r.Method + " " + r.URL.Path
		asked = append(asked, what)
		if err := json.NewEncoder(w).Encode(answers[what]); err != nil {
			t.Error(err)
		}
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	client := api.NewClient(socket)
	t.Cleanup(func() {
		client.Close()
		if err := errors.Join(server.Close(), <-served); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return client, answers, &asked
}

func TestFirstAdministratorIsShownOnce(t *testing.T) {
	client, asked := daemon(t)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, []byte("-----BEGIN CERTIFICATE-----\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// While nobody can see it, it is not noted as seen.
	broken := errors.New("no console")
	if err := introduce(t.Context(), client, dir, ca, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	var said string
	say := func(s string) error { said += s; return nil }
	for range 2 {
		if err := introduce(context.Background(), client, dir, ca, say); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Count(said, "AWS_SECRET_ACCESS_KEY=secret\n") != 1 || !strings.Contains(said, "AWS_ACCESS_KEY_ID=AKIA1\n") || !strings.Contains(said, "\n-----BEGIN CERTIFICATE-----\n") {
		t.Error(said)
	}
	if n := strings.Count(strings.Join(*asked, ","), "access-keys"); n != 2 {
		t.Errorf("%d keys were made: %v", n, *asked)
	}
	note, err := os.ReadFile(filepath.Join(dir, "administrator"))
	if err != nil || strings.Contains(string(note), "secret") {
		t.Errorf("%q, %v", note, err)
	}
}
