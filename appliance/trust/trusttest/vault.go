package trusttest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Vault is a server that answers as the transit engine of Vault and OpenBao does, over HTTPS: POST
// /v1/MOUNT/encrypt/KEY and /decrypt/KEY, the token in X-Vault-Token, plaintexts in base64, ciphertexts as
// vault:vN:…, errors as {"errors":[…]}. See https://openbao.org/api-docs/secret/transit/.
type Vault struct {
	// URL is https://HOST/MOUNT/KEY. TokenFile and CAFile are what a client needs.
	URL, TokenFile, CAFile string

	server *httptest.Server
	mu     sync.Mutex
	sealed bool
	keys   map[string][]cipher.AEAD // by MOUNT/KEY, its versions
	least  int                      // min_decryption_version
	seen   []string                 // what the encrypt calls were sent
}

// The mount and the key that there are at first.
const (
	vaultMount = "pki/transit" // mounts have more than one part sometimes
	vaultKey   = "nfseal"
	vaultToken = "hvs.CAESIJ-a-token-for-tests"
)

// StartVault starts a server with one key; the test's end stops it.
func StartVault(t testing.TB) *Vault {
	t.Helper()
	v := &Vault{keys: map[string][]cipher.AEAD{vaultMount + "/" + vaultKey: {newVersion()}}, least: 1}
	v.server = httptest.NewTLSServer(http.HandlerFunc(v.serve))
	t.Cleanup(v.server.Close)
	dir := t.TempDir()
	v.URL, v.TokenFile, v.CAFile = v.server.URL+"/"+vaultMount+"/"+vaultKey, filepath.Join(dir, "token"), filepath.Join(dir, "ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.server.Certificate().Raw})
	if err := os.WriteFile(v.CAFile, ca, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(v.TokenFile, []byte(vaultToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return v
}

func newVersion() cipher.AEAD {
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// Rotate gives the key a new version; the old ones still decrypt, unless least is above them.
func (v *Vault) Rotate(least int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	name := vaultMount + "/" + vaultKey
	v.keys[name], v.least = append(v.keys[name], newVersion()), least
}

// Replace puts another key in the place of the one there is.
func (v *Vault) Replace() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys[vaultMount+"/"+vaultKey] = []cipher.AEAD{newVersion()}
}

// Seal has the server refuse everything, or no longer.
func (v *Vault) Seal(sealed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sealed = sealed
}

// Stop makes the server unreachable for good.
func (v *Vault) Stop() { v.server.Close() }

// Seen is all that was ever sent to be encrypted.
func (v *Vault) Seen() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.seen
}

func refuse(w http.ResponseWriter, status int, words ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string][]string{"errors": words})
}

func (v *Vault) serve(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var body struct{ Plaintext, Ciphertext string }
	decodeErr := json.NewDecoder(http.MaxBytesReader(w, r.Body, 32<<20)).Decode(&body)
	rest, _ := strings.CutPrefix(r.URL.Path, "/v1/"+vaultMount+"/")
	operation, key, _ := strings.Cut(rest, "/")
	versions := v.keys[vaultMount+"/"+key]
	switch {
	case v.sealed:
		refuse(w, http.StatusServiceUnavailable, "Vault is sealed")
	case r.Header.Get("X-Vault-Token") != vaultToken:
		refuse(w, http.StatusForbidden, "permission denied")
	case rest == r.URL.Path, operation != "encrypt" && operation != "decrypt":
		refuse(w, http.StatusNotFound, fmt.Sprintf("no handler for route %q. route entry not found.", r.URL.Path))
	case r.Method != http.MethodPost && r.Method != http.MethodPut:
		refuse(w, http.StatusMethodNotAllowed, "unsupported operation")
	case decodeErr != nil:
		refuse(w, http.StatusBadRequest, "failed to parse JSON input")
	case versions == nil:
		refuse(w, http.StatusBadRequest, "encryption key not found")
	case operation == "encrypt":
		v.encrypt(w, versions, body.Plaintext)
	default:
		v.decrypt(w, versions, body.Ciphertext)
	}
}

func (v *Vault) encrypt(w http.ResponseWriter, versions []cipher.AEAD, text string) {
	plaintext, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		refuse(w, http.StatusBadRequest, "failed to base64-decode plaintext")
		return
	}
	v.seen = append(v.seen, string(plaintext))
	ciphertext := versions[len(versions)-1].Seal(nil, nil, plaintext, nil)
	answer(w, map[string]any{
		"ciphertext":  fmt.Sprintf("vault:v%d:%s", len(versions), base64.StdEncoding.EncodeToString(ciphertext)),
		"key_version": len(versions),
	})
}

func (v *Vault) decrypt(w http.ResponseWriter, versions []cipher.AEAD, text string) {
	var n int
	var encoded string
	if _, err := fmt.Sscanf(text, "vault:v%d:%s", &n, &encoded); err != nil || n < 1 || n > len(versions) {
		refuse(w, http.StatusBadRequest, "invalid ciphertext: no prefix")
		return
	}
	if n < v.least {
		refuse(w, http.StatusBadRequest, "ciphertext or signature version is disallowed by policy (too old)")
		return
	}
	sealed, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		refuse(w, http.StatusBadRequest, "invalid ciphertext: could not decode base64")
		return
	}
	plaintext, err := versions[n-1].Open(nil, nil, sealed, nil)
	if err != nil {
		refuse(w, http.StatusBadRequest, "cipher: message authentication failed")
		return
	}
	answer(w, map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plaintext)})
}

// answer has what Vault's answers have around their data.
func answer(w http.ResponseWriter, data map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"request_id": "0a7e3f5a-64c0-4f5a-9d7b-2f6c7a1d3b1e", "lease_id": "", "renewable": false, "lease_duration": 0,
		"data": data, "wrap_info": nil, "warnings": nil, "auth": nil, "mount_type": "transit",
	})
}
