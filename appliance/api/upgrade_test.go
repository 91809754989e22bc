package api

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/nfseal/nfseal/appliance/iam"
)

// shelfOfBundles keeps the last one.
type shelfOfBundles struct {
	bundle []byte
	taken  int
}

func (s *shelfOfBundles) TakeUpgrade(_ context.Context, r io.Reader) (err error) {
	s.taken++
	s.bundle, err = io.ReadAll(r)
	return err
}

func (s *shelfOfBundles) UpgradeState(context.Context) (UpgradeState, error) {
	return UpgradeState{State: UpgradeFailed, Version: "2", Detail: "older"}, nil
}

// newUpgradeDoor is a door of an image.
func newUpgradeDoor(t *testing.T) (*door, *Server, *shelfOfBundles) {
	t.Helper()
	d, shelf := newDoor(t), &shelfOfBundles{}
	s, err := New(Options{Backend: d.backend, Audit: d.log, Region: "local-1", Upgrades: shelf})
	if err != nil {
		t.Fatal(err)
	}
	d.Config.Handler = s.FrontDoor()
	return d, s, shelf
}

// A bundle is larger than any other body, and is signed by its builder, not by the caller.
func TestUpgradeFromAfar(t *testing.T) {
	d, _, shelf := newUpgradeDoor(t)
	admin := d.remote(t, "admin", everything)
	bundle := bytes.Repeat([]byte("bundle"), maxBodyBytes)
	if err := admin.Upgrade(t.Context(), bytes.NewReader(bundle), int64(len(bundle))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(shelf.bundle, bundle) {
		t.Errorf("%d bytes arrived of %d", len(shelf.bundle), len(bundle))
	}
	if e := d.last(); e.Source+" "+e.Name != "nfseal StartUpgrade" || e.ErrorCode != "" || e.Identity.Principal == "" {
		t.Errorf("the record: %+v", e)
	}
	if state, err := admin.UpgradeState(t.Context()); err != nil || state.State != UpgradeFailed || state.Version != "2" {
		t.Errorf("%+v, %v", state, err)
	}
}

// Who may not upgrade sends nothing that is kept.
func TestUpgradeNeedsARight(t *testing.T) {
	d, _, shelf := newUpgradeDoor(t)
	one := d.remote(t, "one", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"nfseal:Describe*","Resource":"*"}]}`)
	if err := one.Upgrade(t.Context(), strings.NewReader("x"), 1); !isCode(err, "AccessDeniedException") {
		t.Errorf("%v", err)
	}
	signed := one.sign
	one.sign = func(r *http.Request, payload string) error {
		err := signed(r, payload)
		r.Header.Set("Authorization", r.Header.Get("Authorization")+"0")
		return err
	}
	if err := one.Upgrade(t.Context(), strings.NewReader("x"), 1); !isCode(err, "InvalidSignatureException") && !isCode(err, "IncompleteSignatureException") {
		t.Errorf("a wrong signature: %v", err)
	}
	if shelf.taken != 0 {
		t.Errorf("%d bundles were taken", shelf.taken)
	}
}

// No other request may leave its body unsigned.
func TestOnlyBundlesAreUnsigned(t *testing.T) {
	d, _, _ := newUpgradeDoor(t)
	admin := d.remote(t, "admin", everything)
	signed := admin.sign
	admin.sign = func(r *http.Request, _ string) error {
		r.Header.Set("X-Amz-Content-Sha256", iam.UnsignedPayload)
		return signed(r, iam.UnsignedPayload)
	}
	if err := admin.CreateUser(t.Context(), "bob"); !isCode(err, "InvalidSignatureException") {
		t.Errorf("%v", err)
	}
}

// Nor may one for another service, at the path of bundles.
func TestOtherServicesTakeNoUnsignedBody(t *testing.T) {
	d, _, _ := newUpgradeDoor(t)
	config := d.config(t, "admin", everything)
	credentials, err := config.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"kms", "sts", "elasticfilesystem"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, d.URL+upgradePath, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Target", targetPrefix+"CreateKey")
		r.Header.Set("X-Amz-Content-Sha256", iam.UnsignedPayload)
		if err := v4.NewSigner().SignHTTP(t.Context(), credentials, r, iam.UnsignedPayload, service, "local-1", time.Now()); err != nil {
			t.Fatal(err)
		}
		answer, err := d.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		if err := errors.Join(err, answer.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != http.StatusForbidden || len(d.log.events) != 0 {
			t.Errorf("%s: %s %s, and %d calls on record", service, answer.Status, body, len(d.log.events))
		}
	}
}

func TestNoUpgradesOutsideTheImage(t *testing.T) {
	s, _, _ := newServer(t)
	for _, method := range []string{"PUT", "GET"} {
		if w := ask(s, method, upgradePath, "x"); w.Header().Get("X-Amzn-Errortype") != "NoUpgrades" {
			t.Errorf("%s: %d %s", method, w.Code, w.Body)
		}
	}
}

// TestUpgradeWithCurl: curl, which is everywhere, can send a bundle.
func TestUpgradeWithCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("needs curl: runs in make test, which installs it")
	}
	d, _, shelf := newUpgradeDoor(t)
	id, secret := d.backend.Signer(t, "admin", everything)
	dir := t.TempDir()
	ca, bundle := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "bundle")
	err = errors.Join(os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.Certificate().Raw}), 0o600),
		os.WriteFile(bundle, bytes.Repeat([]byte("bundle"), 100_000), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(curl, "--silent", "--show-error", "--fail-with-body", "--cacert", ca, "--aws-sigv4", "aws:amz:local-1:nfseal",
		"--user", id+":"+secret.Reveal(), "-H", "X-Amz-Content-Sha256: "+iam.UnsignedPayload, "--upload-file", bundle, d.URL+upgradePath).CombinedOutput()
	if err != nil || len(shelf.bundle) != 600_000 {
		t.Errorf("%v: %s; %d bytes arrived", err, out, len(shelf.bundle))
	}
}
