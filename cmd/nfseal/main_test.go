package main

import (
	"context"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/api/apitest"
	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/policy"
)

var rewrite = flag.Bool("rewrite", false, "rewrite what the scripts expect")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"nfseal": main})
}

// TestScripts runs testdata/*.txtar, each with the API on a socket of its own; the environment names
// it, and dead names one where nobody listens.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *rewrite,
		Cmds:          map[string]func(ts *testscript.TestScript, neg bool, args []string){"capture": capture},
		Setup: func(e *testscript.Env) error {
			socket := filepath.Join(e.WorkDir, "api.sock")
			e.Setenv("NFSEAL_SOCKET", socket)
			e.Setenv("dead", filepath.Join(e.WorkDir, "dead.sock"))
			directory := apitest.NewDirectory(t)
			s, err := api.New(api.Options{
				Backend: &shelf{Directory: directory}, Audit: forgetful{}, Keys: apitest.NewKeys(t, "local-1", time.Now), Region: "local-1",
				Upgrades: &bundles{}, Configurations: &configurations{},
			})
			if err != nil {
				return err
			}
			l, err := api.Listen(socket)
			if err != nil {
				return err
			}
			if err := farFrom(t, e, s, directory); err != nil {
				return err
			}
			served := make(chan error, 1)
			go func() { served <- s.Serve(l) }()
			e.Defer(func() {
				if err := errors.Join(s.Close(), <-served); err != nil {
					t.Error(err)
				}
			})
			return nil
		},
	})
}

// configurations tries what it is given.
type configurations struct{ state api.ConfigurationState }

func (c *configurations) ApplyConfiguration(_ context.Context, r api.ApplyConfigurationRequest) error {
	if !c.state.TryUntil.IsZero() {
		return api.ConfigurationBusy()
	}
	c.state.Text = r.Text
	if r.TrySeconds > 0 {
		c.state.TryUntil = time.Now().Add(time.Duration(r.TrySeconds) * time.Second)
	}
	return nil
}

func (c *configurations) ConfirmConfiguration(context.Context) error {
	if c.state.TryUntil.IsZero() {
		return api.NoTrial()
	}
	c.state.TryUntil = time.Time{}
	return nil
}

func (c *configurations) ConfigurationState(context.Context) (api.ConfigurationState, error) {
	return c.state, nil
}

// bundles takes one that says good.
type bundles struct{ state api.UpgradeState }

func (b *bundles) TakeUpgrade(_ context.Context, r io.Reader) error {
	text, err := io.ReadAll(r)
	b.state = api.UpgradeState{State: api.UpgradeFailed, Version: "0.9", Detail: "it is older than what runs"}
	if strings.TrimSpace(string(text)) == "good" {
		b.state = api.UpgradeState{State: api.UpgradeWritten, Version: "1.1"}
	}
	return err
}

func (b *bundles) UpgradeState(context.Context) (api.UpgradeState, error) {
	if b.state.State == "" {
		return api.UpgradeState{State: api.UpgradeNone}, nil
	}
	return b.state, nil
}

// farFrom opens the front door of s too: far names it in the environment, ca.pem has its certificate, and the
// profiles of two users are where the aws CLI has them.
func farFrom(t *testing.T, e *testscript.Env, s *api.Server, users *apitest.Directory) error {
	door := httptest.NewTLSServer(s.FrontDoor())
	e.Defer(door.Close)
	e.Setenv("far", door.URL)
	var profiles strings.Builder
	for user, action := range map[string]string{"admin": "*", "reader": "elasticfilesystem:Describe*"} {
		id, secret := users.Signer(t, user, `{"Statement":{"Effect":"Allow","Action":"`+action+`","Resource":"*"}}`)
		fmt.Fprintf(&profiles, "[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\nregion = local-1\n", user, id, secret.Reveal())
	}
	e.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(e.WorkDir, "credentials"))
	e.Setenv("AWS_CONFIG_FILE", filepath.Join(e.WorkDir, "none"))
	return errors.Join(
		os.WriteFile(filepath.Join(e.WorkDir, "credentials"), []byte(profiles.String()), 0o600),
		os.WriteFile(filepath.Join(e.WorkDir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: door.Certificate().Raw}), 0o600))
}

// capture puts what the last program printed into the variable of the environment that it is given.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

type forgetful struct{}

func (forgetful) Append(audit.Event) error { return nil }

// shelf is an api.Backend that keeps file systems in a list, with the same ids in each run.
type shelf struct {
	*apitest.Directory
	records
	shelfIntegrity
	mu     sync.Mutex
	made   int
	list   []catalog.FileSystem
	quota  uint64 // of every file system
	policy string // of the only file system that has one
}

func (s *shelf) CreateFileSystem(_ context.Context, f catalog.FileSystem) (catalog.FileSystem, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.list {
		if known.CreationToken == f.CreationToken {
			return known, catalog.ErrTokenExists
		}
	}
	s.made++
	f.ID, f.State, f.Created = fmt.Sprintf("fs-%017x", s.made), catalog.Available, time.Unix(1700000000, 0)
	s.list = append(s.list, f)
	return f, nil
}

func (s *shelf) DeleteFileSystem(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.list, func(f catalog.FileSystem) bool { return f.ID == id })
	if i < 0 {
		return catalog.ErrNotFound
	}
	s.list = slices.Delete(s.list, i, i+1)
	return nil
}

func (s *shelf) FileSystems(context.Context) ([]catalog.FileSystem, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list), nil
}

func (s *shelf) UsedBytes(context.Context, string) (uint64, bool) { return 5 << 19, true }

func (s *shelf) Status(context.Context) (api.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := api.Status{
		Version: "v1", Started: time.Unix(1700000000, 0).UTC(), DataDir: "/data", Addresses: []string{"127.0.0.1:2049"},
		CAFile: "/data/pki/ca.pem", OCSPURL: "http://127.0.0.1:2050/ocsp", MountTemplate: "mount -t nfseal <fs-id>:/ /mnt",
		Features: []api.Feature{{Name: "OCSP", On: true, Detail: "stapled"}, {Name: "XDP gate", Detail: "not built in this version"}},
		Units:    []api.UnitStatus{{ID: "u", State: "serving", VolumeBytes: 10 << 30, FreeBytes: 1 << 30, Epoch: 3, FileSystems: len(s.list)}},
	}
	for _, f := range s.list {
		status.FileSystems = append(status.FileSystems, api.FileSystemStatus{
			QuotaBytes: s.quota,
			ID:         f.ID, Name: f.Name(), State: "available", Unit: "u", UsedBytes: 1000, MountCommand: "mount -t nfseal " + f.ID + ":/ /mnt",
		})
		if strings.Contains(f.Name(), "broken") {
			status.FileSystems[len(status.FileSystems)-1].State = "error"
			status.FileSystems[len(status.FileSystems)-1].Reason = "its metadata is damaged"
		}
	}
	return status, nil
}

func (s *shelf) Network(_ context.Context, measure time.Duration) (api.Network, error) {
	n := api.Network{
		Parts:     []api.Feature{{Name: "sk_lookup steering", On: true, Detail: "2 sockets"}, {Name: "XDP gate", Detail: "no interface"}},
		Addresses: []api.NetworkAddress{{Address: "10.0.0.1/24", Interface: "mac=52:54:00:00:00:01", Name: "eth1", MTU: 9000, Present: true}},
		Programs:  []api.NetworkProgram{{Name: "steer"}},
		Sockets:   2,
		Steered:   []api.NetworkSteered{{Address: "10.0.0.1", Steered: 7, Refused: 1}},
	}
	if measure > 0 {
		n.Programs[0].Runs, n.Programs[0].PerRunNanoseconds = 3, 181
		n.Drops = []api.NetworkDrop{{
			Time: time.Unix(1700000000, 0).UTC(), Verdict: "drop-source", Source: "192.0.2.1:1023", To: "10.0.0.1:2049", Interface: 3, Bytes: 74,
		}}
	}
	return n, nil
}

func (s *shelf) GrowVolume(_ context.Context, unit string, sizeBytes int64) (int64, error) {
	switch {
	case unit != "u":
		return 0, api.NoUnit(unit)
	case sizeBytes != 0 && sizeBytes < 20<<30:
		return 0, api.CannotGrow("it has 20.0 GiB already, and does not shrink")
	}
	return 20 << 30, nil
}

func (s *shelf) SetQuota(_ context.Context, _ string, quotaBytes uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quota = quotaBytes
	return nil
}

func (s *shelf) ChangeFileSystem(_ context.Context, id string, change func(*catalog.FileSystem) error) (catalog.FileSystem, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.list, func(f catalog.FileSystem) bool { return f.ID == id })
	if i < 0 {
		return catalog.FileSystem{}, catalog.ErrNotFound
	}
	err := change(&s.list[i])
	return s.list[i], err
}

func (s *shelf) PutFileSystemPolicy(_ context.Context, id, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := policy.Parse(policy.Resource, text); err != nil {
		return err
	}
	s.policy = text
	return nil
}

func (s *shelf) FileSystemPolicy(context.Context, string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.policy == "" {
		return "", catalog.ErrNoPolicy
	}
	return s.policy, nil
}

func (s *shelf) DeleteFileSystemPolicy(context.Context, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy = ""
	return nil
}

// Compliance judges by the names of file systems.
func (s *shelf) Compliance(context.Context) ([]api.Finding, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	findings := []api.Finding{}
	for _, f := range s.list {
		finding := api.Finding{Rule: "efs-policy-present", ResourceType: "AWS::EFS::FileSystem", Resource: f.ID, Status: api.Compliant, Detail: "it has a policy"}
		if f.Name() == "open" {
			finding.Status, finding.Detail = "NON_COMPLIANT", "it has no policy"
		}
		findings = append(findings, finding)
	}
	return findings, nil
}

func (s *shelf) Healthy() error { return nil }

func (s *shelf) Metrics() prometheus.Gatherer { return prometheus.NewRegistry() }

func TestBytesText(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 5 << 19: "2.5 MiB", 100 << 30: "100 GiB", 1 << 50: "1.0 PiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestReachable(t *testing.T) {
	for address, want := range map[string]string{
		"[::]:2049": "127.0.0.1:2049", "0.0.0.0:2049": "127.0.0.1:2049", "10.0.0.1:2049": "10.0.0.1:2049", ":2049": "127.0.0.1:2049",
	} {
		if got := reachable(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// What users name must not reach a terminal as commands to it.
func TestTableShowsNoControlCharacters(t *testing.T) {
	var out strings.Builder
	table := newTable(&out, "NAME")
	table.row("a\x1b[31m\n\tb\u009bc\x7f é")
	if err := table.flush(); err != nil {
		t.Fatal(err)
	}
	if want := "NAME\na?[31m??b?c? é\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
