package certfile

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

var names = []string{"127.0.0.9", "*.efs.local-1.nfseal.internal"}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks cuts a PEM file into its certificates.
func blocks(text string) []string {
	var list []string
	for _, b := range strings.SplitAfter(text, "-----END CERTIFICATE-----\n") {
		if b != "" {
			list = append(list, b)
		}
	}
	return list
}

// TestLoadRefuses: what openssl makes is taken, and each rule has its own words.
func TestLoadRefuses(t *testing.T) {
	ca := transporttest.NewOpenSSLCA(t)
	dir := t.TempDir()
	cert, key := ca.Issue(t, "good", transporttest.OpenSSLLeaf{})
	chain := blocks(read(t, cert))
	issued := func(name string, leaf transporttest.OpenSSLLeaf) Pair {
		c, k := ca.Issue(t, name, leaf)
		return Pair{c, k}
	}
	file := func(name, text string) string { return write(t, filepath.Join(dir, name), text) }
	openKey := file("open.key", read(t, key))
	if err := os.Chmod(openKey, 0o644); err != nil {
		t.Fatal(err)
	}
	encrypted := filepath.Join(dir, "encrypted.key")
	if out, err := exec.Command("openssl", "pkey", "-in", key, "-out", encrypted, "-aes256", "-passout", "pass:x").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, c := range map[string]struct {
		pair Pair
		at   time.Duration // from now
		is   error
		want string
	}{
		"ECDSA":             {Pair{cert, key}, 0, nil, ""},
		"RSA":               {issued("rsa", transporttest.OpenSSLLeaf{Kind: "rsa2048"}), 0, nil, ""},
		"leaf alone":        {Pair{file("leaf.pem", chain[0]), key}, 0, nil, ""},
		"wildcard":          {issued("wild", transporttest.OpenSSLLeaf{Names: "DNS:*.efs.local-1.nfseal.internal"}), 0, nil, ""},
		"zone before it":    {issued("zone", transporttest.OpenSSLLeaf{Names: "DNS:a." + transporttest.ServerName}), 0, nil, ""},
		"an address":        {issued("address", transporttest.OpenSSLLeaf{Names: "IP:127.0.0.9"}), 0, nil, ""},
		"no certificate":    {Pair{filepath.Join(dir, "missing"), key}, 0, ErrUnreadable, "no such file"},
		"no key":            {Pair{cert, filepath.Join(dir, "missing")}, 0, ErrUnreadable, "no such file"},
		"a directory":       {Pair{dir, key}, 0, ErrUnreadable, "is no file"},
		"open to others":    {Pair{cert, openKey}, 0, ErrOpen, "mode 0644: chmod 600 " + openKey},
		"with a passphrase": {Pair{cert, encrypted}, 0, ErrSyntax, "passphrase"},
		"no PEM":            {Pair{file("text", "hello"), key}, 0, ErrSyntax, "has 0 certificates"},
		"key without PEM":   {Pair{cert, file("text.key", "hello")}, 0, ErrSyntax, "no private key in PEM"},
		"damaged key":       {Pair{cert, file("bad.key", "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n")}, 0, ErrSyntax, "damaged"},
		"damaged certificate": {Pair{file("bad.pem", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"), key},
			0, ErrSyntax, "certificate 1 in"},
		"another's key":  {Pair{cert, issued("other", transporttest.OpenSSLLeaf{}).Key}, 0, ErrMismatch, "don't belong together"},
		"issuer first":   {Pair{file("turned.pem", chain[1]+chain[0]), key}, 0, ErrMismatch, "don't belong together"},
		"chain disorder": {Pair{file("twice.pem", chain[0]+chain[0]), key}, 0, ErrOrder, "the server's comes first"},
		"expired":        {Pair{cert, key}, 11 * 24 * time.Hour, ErrDates, "has expired at"},
		"not yet":        {Pair{cert, key}, -24 * time.Hour, ErrDates, "check the clock"},
		"for a client":   {issued("client", transporttest.OpenSSLLeaf{Usage: "clientAuth"}), 0, ErrUse, "lacks the usage serverAuth"},
		"short key":      {issued("short", transporttest.OpenSSLLeaf{Kind: "rsa1024"}), 0, ErrUse, "1024 bits"},
		"other names":    {issued("names", transporttest.OpenSSLLeaf{Names: "DNS:nfs.example.com,IP:10.0.0.1"}), 0, ErrName, "is for nfs.example.com, 10.0.0.1; this server is 127.0.0.9"},
		"no names":       {issued("nameless", transporttest.OpenSSLLeaf{Names: "none"}), 0, ErrName, "no subject alternative name"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Load(c.pair, names, time.Now().Add(c.at))
			if c.is == nil {
				if err != nil || got.Leaf == nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v; want %v with %q", err, c.is, c.want)
			}
		})
	}
}

// TestForeignKeyOwner: root may read everybody's key, but whose it is could change it.
func TestForeignKeyOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away (runs as root: make test, .ci/run)")
	}
	ca := transporttest.NewOpenSSLCA(t)
	cert, key := ca.Issue(t, "good", transporttest.OpenSSLLeaf{})
	if err := os.Chown(key, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(Pair{cert, key}, names, time.Now()); !errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), "user 12345") {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	one := []Pair{{"c", "k"}}
	for name, o := range map[string]Options{
		"no pairs":      {Names: names},
		"too many":      {Names: names, Pairs: make([]Pair, MaxPairs+1)},
		"no key":        {Names: names, Pairs: []Pair{{Cert: "c"}}},
		"no names":      {Pairs: one},
		"negative poll": {Pairs: one, Names: names, Poll: -1},
	} {
		if err := Check(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
