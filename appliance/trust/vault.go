package trust

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/durable"
)

// What a Vault can refuse.
var (
	// ErrUnreachable says that it does not answer, or can't now.
	ErrUnreachable = errors.New("no answer comes from Vault")
	// ErrToken says that it does not let the token do what is needed.
	ErrToken = errors.New("the token is refused by Vault")
	// ErrVaultKey says that it has no such key.
	ErrVaultKey = errors.New("there is no such key in Vault")
)

const (
	vaultTimeout        = 30 * time.Second
	maxVaultAnswerBytes = 64 << 10
	maxTokenBytes       = 4 << 10
	maxCABytes          = 1 << 20
)

// vault wraps under a key that the transit engine of HashiCorp Vault, or OpenBao, encrypts and keeps to
// itself. What it is sent is not the secret but a key for it: Vault alone reads nothing either.
type vault struct {
	base      string // https://host:port
	mount     string // of the transit engine
	key       string // its name there
	tokenFile string
	client    *http.Client
}

var _ Root = (*vault)(nil)

type vaultWrapped struct {
	Ciphertext string `json:"ciphertext"` // as Vault gave it
	Sealed     []byte `json:"sealed"`
}

// parseVaultURL takes https://HOST[:PORT]/MOUNT/KEY apart; a mount may have several parts.
func parseVaultURL(text string) (base, mount, key string, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", "", fmt.Errorf("%q is not the https address of a key in Vault's transit engine, as https://vault.example.com:8200/transit/nfseal", text)
	}
	mount, key = path.Split(strings.Trim(u.Path, "/"))
	mount = strings.Trim(mount, "/")
	if mount == "" || key == "" || path.Clean("/"+mount) != "/"+mount {
		return "", "", "", fmt.Errorf("%q names no key: after the host come the mount of the transit engine and the key, as /transit/nfseal", text)
	}
	return "https://" + u.Host, mount, key, nil
}

func openVault(o *Options) (Root, error) {
	base, mount, key, err := parseVaultURL(o.Where)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.VaultCAFile != "" {
		text, err := durable.ReadFile(o.VaultCAFile, maxCABytes)
		if err != nil {
			return nil, fmt.Errorf("the CA file of Vault: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("the CA file of Vault, %s, holds no certificate in PEM", o.VaultCAFile)
		}
	}
	return &vault{base, mount, key, o.VaultTokenFile, &http.Client{
		Timeout:   vaultTimeout,
		Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true},
		// The token is for this host alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Kind implements Root.
func (v *vault) Kind() Kind { return Vault }

// Describe implements Root.
func (v *vault) Describe() string {
	return "the key " + v.key + " in Vault at " + v.base + ": who takes the data reads nothing without Vault and the token, and each start is on Vault's record"
}

// Close implements Root.
func (v *vault) Close() error {
	v.client.CloseIdleConnections()
	return nil
}

// Wrap implements Root.
func (v *vault) Wrap(ctx context.Context, secret, aad []byte) ([]byte, error) {
	key := make([]byte, KeyBytes)
	rand.Read(key) // never fails (crypto/rand)
	defer clear(key)
	var answer struct{ Ciphertext string }
	if err := v.call(ctx, "encrypt", map[string][]byte{"plaintext": key}, &answer); err != nil {
		return nil, err
	}
	if answer.Ciphertext == "" || len(answer.Ciphertext) > MaxWrappedBytes/2 {
		return nil, fmt.Errorf("%w: its answer has no ciphertext", ErrUnreachable)
	}
	w := vaultWrapped{Ciphertext: answer.Ciphertext}
	var err error
	if w.Sealed, err = seal(Vault, key, secret, aad); err != nil {
		return nil, err
	}
	return encode(w)
}

// Unwrap implements Root.
func (v *vault) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	var w vaultWrapped
	if err := decode(wrapped, &w); err != nil {
		return nil, err
	}
	if w.Ciphertext == "" {
		return nil, ErrDamaged
	}
	var answer struct{ Plaintext []byte }
	if err := v.call(ctx, "decrypt", map[string]string{"ciphertext": w.Ciphertext}, &answer); err != nil {
		return nil, err
	}
	defer clear(answer.Plaintext)
	if len(answer.Plaintext) != KeyBytes {
		return nil, fmt.Errorf("%w: Vault gives back something else than it was given", ErrRefused)
	}
	return open(Vault, answer.Plaintext, w.Sealed, aad)
}

// call has the transit engine do one operation, and decodes the data of its answer.
func (v *vault) call(ctx context.Context, operation string, body, into any) error {
	token, err := v.token()
	if err != nil {
		return err
	}
	text, err := encode(body)
	if err != nil {
		return err
	}
	defer clear(text)
	address := v.base + "/v1/" + v.mount + "/" + operation + "/" + url.PathEscape(v.key)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Vault-Token", token)
	r.Header.Set("X-Vault-Request", "true") // an agent of Vault's wants it
	answer, err := v.client.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %w; see that it runs and that its certificate is from a known CA, and start again", ErrUnreachable, err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, maxVaultAnswerBytes))
	defer clear(said)
	if err != nil {
		return fmt.Errorf("%w: its answer was cut short: %w; start again", ErrUnreachable, err)
	}
	if answer.StatusCode != http.StatusOK {
		return v.refusal(answer.StatusCode, operation, said)
	}
	if json.Unmarshal(said, &struct{ Data any }{into}) != nil {
		return fmt.Errorf("%w: %s does not answer as a transit engine does", ErrUnreachable, v.base)
	}
	return nil
}

// refusal makes a sentence of what Vault says.
func (v *vault) refusal(status int, operation string, said []byte) error {
	var e struct{ Errors []string }
	_ = json.Unmarshal(said, &e) // what is no JSON has nothing to say
	words := strings.ToValidUTF8(strings.Join(e.Errors, "; "), "")
	if len(words) > 300 {
		words = strings.ToValidUTF8(words[:300], "")
	}
	what := fmt.Sprintf("%s answers %d %q", v.base, status, words)
	switch {
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return fmt.Errorf("%w: %s; put a token into %s whose policy has update on %s/encrypt/%s and %s/decrypt/%s",
			ErrToken, what, v.tokenFile, v.mount, v.key, v.mount, v.key)
	case status == http.StatusNotFound, status == http.StatusBadRequest && strings.Contains(words, "key not found"):
		return fmt.Errorf("%w: %s; see that the transit engine is at %s and has the key %s", ErrVaultKey, what, v.mount, v.key)
	case status == http.StatusBadRequest && operation == "decrypt":
		return fmt.Errorf("%w: %s; the key %s is another one, or its version is no longer allowed to decrypt", ErrRefused, what, v.key)
	default:
		return fmt.Errorf("%w: %s; see that it is unsealed and active, and start again", ErrUnreachable, what)
	}
}

// token reads the token each time, for whoever renews it writes a new one.
func (v *vault) token() (string, error) {
	if v.tokenFile == "" {
		return "", fmt.Errorf("%w: none is given; name a file that holds one with -vault-token-file", ErrToken)
	}
	info, err := os.Stat(v.tokenFile)
	if err != nil {
		return "", fmt.Errorf("the token for Vault: %w", err)
	}
	if info.Mode().Perm()&0o037 != 0 {
		return "", fmt.Errorf("the token for Vault: %s has mode %04o, it must be 0600 (chmod 600 %s)", v.tokenFile, info.Mode().Perm(), v.tokenFile)
	}
	text, err := durable.ReadFile(v.tokenFile, maxTokenBytes)
	if err != nil {
		return "", fmt.Errorf("the token for Vault: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return "", fmt.Errorf("the token for Vault: %s does not hold one token", v.tokenFile)
	}
	return token, nil
}
