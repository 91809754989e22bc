package trust_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/trust"
	"github.com/nfseal/nfseal/appliance/trust/trusttest"
)

func vaultOptions(v *trusttest.Vault) trust.Options {
	return trust.Options{Kind: trust.Vault, Where: v.URL, VaultTokenFile: v.TokenFile, VaultCAFile: v.CAFile}
}

func openVault(t *testing.T, o trust.Options) trust.Root {
	t.Helper()
	r, err := trust.Open(t.Context(), o, true)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVault(t *testing.T) {
	v := trusttest.StartVault(t)
	r := openVault(t, vaultOptions(v))
	wrapped := wrap(t, r)
	unwraps(t, r, wrapped)
	if _, err := r.Unwrap(t.Context(), wrapped, []byte("two")); !errors.Is(err, trust.ErrRefused) {
		t.Errorf("for something else: %v", err)
	}
	for _, sent := range v.Seen() {
		if sent == string(secret) {
			t.Error("Vault was sent the secret itself")
		}
	}
	v.Rotate(1)
	unwraps(t, r, wrapped)
	unwraps(t, r, wrap(t, r))
	v.Rotate(3)
	refuses(t, r, wrapped, trust.ErrRefused, "no longer allowed to decrypt")
	v.Rotate(1)
	v.Seal(true)
	refuses(t, r, wrapped, trust.ErrUnreachable, "see that it is unsealed")
	v.Seal(false)
	v.Replace()
	refuses(t, r, wrapped, trust.ErrRefused, "is another one")
	v.Stop()
	refuses(t, r, wrapped, trust.ErrUnreachable, "start again")
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestVaultThatRefuses(t *testing.T) {
	v := trusttest.StartVault(t)
	wrapped := wrap(t, openVault(t, vaultOptions(v)))
	token := func(text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "token")
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, test := range map[string]struct {
		change func(*trust.Options)
		want   error
		words  string
	}{
		"another token":      {func(o *trust.Options) { o.VaultTokenFile = token("hvs.secret-of-others", 0o600) }, trust.ErrToken, "and pki/transit/decrypt/nfseal"},
		"no token":           {func(o *trust.Options) { o.VaultTokenFile = "" }, trust.ErrToken, "none is given"},
		"missing token file": {func(o *trust.Options) { o.VaultTokenFile += "x" }, os.ErrNotExist, "token"},
		"token for all":      {func(o *trust.Options) { o.VaultTokenFile = token("hvs.x", 0o644) }, nil, "chmod 600"},
		"two tokens":         {func(o *trust.Options) { o.VaultTokenFile = token("hvs.x\nhvs.y", 0o600) }, nil, "one token"},
		"another key":        {func(o *trust.Options) { o.Where += "2" }, trust.ErrVaultKey, "the key nfseal2"},
		"another mount":      {func(o *trust.Options) { o.Where = strings.Replace(o.Where, "pki/", "", 1) }, trust.ErrVaultKey, "is at transit"},
		"unknown CA":         {func(o *trust.Options) { o.VaultCAFile = "" }, trust.ErrUnreachable, "known CA"},
	} {
		o := vaultOptions(v)
		test.change(&o)
		got, err := openVault(t, o).Unwrap(t.Context(), wrapped, []byte("one"))
		if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.words) || strings.Contains(err.Error(), "hvs.") {
			t.Errorf("%s: %x, said %v", name, got, err)
		}
	}
	for _, bad := range []string{
		"http://vault:8200/transit/nfseal", "https://vault:8200/", "https://vault:8200/nfseal", "https:///transit/nfseal", "vault:8200",
		"https://me:pw@vault/transit/nfseal", "https://vault/transit/nfseal?x=y", "https://vault/a/../transit/nfseal", "https://vault/transit//nfseal/..",
	} {
		if _, err := trust.Parse("vault:" + bad); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	o := vaultOptions(v)
	o.VaultCAFile = v.TokenFile
	if _, err := trust.Open(t.Context(), o, false); err == nil {
		t.Error("a CA file without a CA was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := openVault(t, vaultOptions(v)).Unwrap(ctx, wrapped, []byte("one")); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// Whatever answers at the address, nothing comes of it but an error, and the token goes nowhere else.
func TestServerThatIsNoVault(t *testing.T) {
	v := trusttest.StartVault(t)
	wrapped := wrap(t, openVault(t, vaultOptions(v)))
	var answer func(w http.ResponseWriter)
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("asked elsewhere, with token %q", r.Header.Get("X-Vault-Token"))
	}))
	defer elsewhere.Close()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
	defer s.Close()
	o := vaultOptions(v) // all servers of httptest have one certificate
	o.Where = s.URL + "/transit/nfseal"
	r := openVault(t, o)
	for name, f := range map[string]func(w http.ResponseWriter){
		"nothing":   func(http.ResponseWriter) {},
		"a page":    func(w http.ResponseWriter) { w.Write([]byte("<html>welcome</html>")) },
		"no data":   func(w http.ResponseWriter) { w.Write([]byte(`{"request_id":"1"}`)) },
		"null":      func(w http.ResponseWriter) { w.Write([]byte(`{"data":null}`)) },
		"a list":    func(w http.ResponseWriter) { w.Write([]byte(`{"data":[1]}`)) },
		"short":     func(w http.ResponseWriter) { w.Write([]byte(`{"data":{"plaintext":"AAAA","ciphertext":""}}`)) },
		"no base64": func(w http.ResponseWriter) { w.Write([]byte(`{"data":{"plaintext":"!","ciphertext":7}}`)) },
		"very long": func(w http.ResponseWriter) { w.Write([]byte(`{"data":{"plaintext":"` + strings.Repeat("A", 1<<20))) },
		"redirect": func(w http.ResponseWriter) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		"standby": func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
		"long words": func(w http.ResponseWriter) {
			w.WriteHeader(400)
			json.NewEncoder(w).Encode(map[string][]string{"errors": {strings.Repeat("x", 1<<15)}})
		},
	} {
		answer = f
		got, err := r.Unwrap(t.Context(), wrapped, []byte("one"))
		if err == nil || len(err.Error()) > 1000 {
			t.Errorf("%s: %x, %v", name, got, err)
		}
		if made, err := r.Wrap(t.Context(), secret, []byte("one")); err == nil {
			t.Errorf("%s: wrapped as %s", name, made)
		}
	}
}
