package appliance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/policy"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/transport"
)

// certificateTemplate says what a client puts in its certificate.
type certificateTemplate struct {
	fileSystem, accessPoint string
	notAfter                time.Time // default in three hours
	// sign, if not nil, makes the proof over the certificate's public key.
	sign   func(keyHash []byte) *transport.Connect
	secret iam.Secret
	octets []byte // of the signature, in place of sign's
}

// claim is one extension under 1.3.6.1.4.1.4843.7.
func claim(t testing.TB, which int, value any, params string) pkix.Extension {
	t.Helper()
	der, err := asn1.MarshalWithParams(value, params)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 4843, 7, which}, Value: der}
}

// clientCertificate makes a certificate as the EFS mount helper does.
func clientCertificate(t testing.TB, c *certificateTemplate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if c.notAfter.IsZero() {
		c.notAfter = time.Now().Add(3 * time.Hour)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-15 * time.Minute), NotAfter: c.notAfter,
	}
	if c.accessPoint != "" {
		template.ExtraExtensions = append(template.ExtraExtensions, claim(t, 1, c.accessPoint, "utf8"))
	}
	if c.sign != nil {
		template.ExtraExtensions = append(template.ExtraExtensions, c.proof(t, key))
	}
	if c.fileSystem != "" {
		template.ExtraExtensions = append(template.ExtraExtensions, claim(t, 3, c.fileSystem, "utf8"))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (c *certificateTemplate) proof(t testing.TB, key *ecdsa.PrivateKey) pkix.Extension {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := transport.ClaimsOf(&x509.Certificate{RawSubjectPublicKeyInfo: spki})
	if err != nil {
		t.Fatal(err)
	}
	connect := c.sign(claims.KeyHash[:])
	signature := connect.Sign(c.secret.Reveal())
	octets := c.octets
	if octets == nil {
		octets = []byte(hex.EncodeToString(signature[:]))
	}
	return claim(t, 2, struct {
		ID        string `asn1:"utf8"`
		Signature []byte
		Time      time.Time `asn1:"utc"`
		Token     string    `asn1:"optional,explicit,tag:0,utf8"`
	}{connect.AccessKeyID, octets, connect.Time.Truncate(time.Second), connect.SessionToken}, "")
}

// dialWith connects to the file system id with a client certificate.
func (r *running) dialWith(t testing.TB, id string, certificate *tls.Certificate) net.Conn {
	t.Helper()
	conn, err := transport.Dial(t.Context(), r.addresses()[0], transport.ClientOptions{
		Roots: r.authority.Pool(), ServerName: r.o.DNSName(id), Certificate: certificate,
	})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// newUser makes a user with a policy that lets it do all with file systems, and an access key.
func (r *running) newUser(t testing.TB, name string) (keyID string, secret iam.Secret) {
	t.Helper()
	if _, err := r.CreateUser(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	keyID, secret, err := r.CreateAccessKey(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return keyID, secret
}

// signer makes certificates with one access key.
func (r *running) signer(fileSystem, keyID string, change func(*transport.Connect)) func([]byte) *transport.Connect {
	return func(keyHash []byte) *transport.Connect {
		c := &transport.Connect{
			AccessKeyID: keyID, Region: r.o.Region, FileSystem: fileSystem, KeyHash: keyHash, Time: time.Now().UTC().Truncate(time.Second),
		}
		if change != nil {
			change(c)
		}
		return c
	}
}

// TestForgedProofs shows certificates that claim what they don't prove. The connection is taken, and
// every file handle on it refused, with the reason in the log and in the metric.
func TestForgedProofs(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id, other := r.create(t, "a"), r.create(t, "b")
	keyID, secret := r.newUser(t, "bob")
	deleted, deletedSecret, err := r.CreateAccessKey(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteAccessKey(t.Context(), "bob", deleted); err != nil {
		t.Fatal(err)
	}
	signed := func(change func(*transport.Connect)) certificateTemplate {
		return certificateTemplate{fileSystem: id, sign: r.signer(id, keyID, change), secret: secret}
	}
	with := func(c certificateTemplate, change func(*certificateTemplate)) certificateTemplate {
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		certificate certificateTemplate
		reason      string // "" if it is taken
	}{
		"anonymous":             {certificateTemplate{fileSystem: id}, ""},
		"proved":                {signed(nil), ""},
		"another secret":        {with(signed(nil), func(c *certificateTemplate) { c.secret = iam.NewSecret("x") }), "proof_signature"},
		"another key pair":      {signed(func(c *transport.Connect) { c.KeyHash = make([]byte, 20) }), "proof_signature"},
		"another region":        {signed(func(c *transport.Connect) { c.Region = "local-2" }), "proof_signature"},
		"another file system":   {signed(func(c *transport.Connect) { c.FileSystem = other }), "proof_signature"},
		"for no file system":    {with(signed(nil), func(c *certificateTemplate) { c.fileSystem = "" }), "file_system"},
		"over a day old":        {signed(func(c *transport.Connect) { c.Time = c.Time.Add(-25 * time.Hour) }), "proof_old"},
		"from tomorrow":         {signed(func(c *transport.Connect) { c.Time = c.Time.Add(time.Hour) }), "proof_future"},
		"deleted key":           {certificateTemplate{fileSystem: id, sign: r.signer(id, deleted, nil), secret: deletedSecret}, "access_key"},
		"unknown key":           {certificateTemplate{fileSystem: id, sign: r.signer(id, "AKIAAAAAAAAAAAAAAAAA", nil)}, "access_key"},
		"session token":         {signed(func(c *transport.Connect) { c.SessionToken = "t" }), "session_token"},
		"binary signature":      {with(signed(nil), func(c *certificateTemplate) { c.octets = make([]byte, 32) }), "malformed"},
		"signature of others":   {with(signed(nil), func(c *certificateTemplate) { c.octets = []byte(strings.Repeat("g", 64)) }), "malformed"},
		"expired certificate":   {certificateTemplate{fileSystem: id, notAfter: time.Now().Add(-time.Minute)}, "dates"},
		"unknown access point":  {certificateTemplate{fileSystem: id, accessPoint: "fsap-0123456789abcdef0"}, "access_point"},
		"no known file system":  {certificateTemplate{fileSystem: "fs-00000000000000000"}, "nowhere"},
		"anonymous, SNI counts": {certificateTemplate{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.table.refused()
			conn := r.dialWith(t, id, clientCertificate(t, &c.certificate))
			client, err := nfsclient.New(t.Context(), conn, nfsclient.Options{})
			if c.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				client.Abandon()
				return
			}
			if !errors.Is(err, wire.NFS4ERR_ACCESS) && c.reason != "nowhere" || err == nil {
				t.Fatalf("mounted: %v", err)
			}
			if now := r.table.refused(); c.reason != "nowhere" && now[c.reason] != before[c.reason]+1 {
				t.Errorf("counted %v, then %v", before, now)
			}
			if n := r.metric(t, "nfseal_clients_denied_total", c.reason); c.reason != "nowhere" && n != float64(before[c.reason]+1) {
				t.Errorf("%v in the metric", n)
			}
		})
	}
	for _, entry := range r.logs.All() {
		if text := fmt.Sprint(entry.Message, entry.ContextMap()); strings.Contains(text, secret.Reveal()) {
			t.Errorf("the secret is in the log: %s", entry.Message)
		}
	}
}

// TestUsersAndPolicies follows one user's connection through changes of its policies and its key.
func TestUsersAndPolicies(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id := r.create(t, "a")
	keyID, secret := r.newUser(t, "bob")
	nobody, root := r.mount(t, id)
	write(t, nobody, root, "file", "content")
	mount := func() (*nfsclient.Client, nfsclient.Handle) {
		certificate := clientCertificate(t, &certificateTemplate{fileSystem: id, sign: r.signer(id, keyID, nil), secret: secret})
		c, err := nfsclient.New(t.Context(), r.dialWith(t, id, certificate), nfsclient.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Abandon)
		root, err := c.Root(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c, root
	}
	bob, bobRoot := mount()
	ownPolicy := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"elasticfilesystem:Client*","Resource":"*",` +
		`"Condition":{"StringEquals":{"aws:username":"bob"}}}}`
	forBob := `{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/bob"},` +
		`"Action":["elasticfilesystem:ClientMount","elasticfilesystem:ClientRootAccess"]}}`
	for i, step := range []struct {
		what   string
		do     func() error
		anyone string
		bob    string
	}{
		{"a policy for bob", func() error { return r.PutFileSystemPolicy(t.Context(), id, forBob) }, "", "read"},
		{"bob's own", func() error { return r.PutUserPolicy(t.Context(), "bob", "own", ownPolicy) }, "", "read write"},
		{"a malformed one", func() error { return wantMalformed(r.PutUserPolicy(t.Context(), "bob", "x", "{}")) }, "", "read write"},
		{"not bob's own", func() error { return r.DeleteUserPolicy(t.Context(), "bob", "own") }, "", "read"},
		{"no policy", func() error { return r.DeleteFileSystemPolicy(t.Context(), id) }, "read write", "read write"},
		{"no key", func() error { return r.DeleteAccessKey(t.Context(), "bob", keyID) }, "read write", ""},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if got := mayDo(t, nobody, root, 2*i); got != step.anyone {
			t.Errorf("%s: anybody may %q", step.what, got)
		}
		if got := mayDo(t, bob, bobRoot, 2*i+1); got != step.bob {
			t.Errorf("%s: bob may %q", step.what, got)
		}
	}
	var err error
	if keyID, secret, err = r.CreateAccessKey(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	if err := r.PutFileSystemPolicy(t.Context(), id, forBob); err != nil {
		t.Fatal(err)
	}
	r.stop(t)

	r = start(t, testOptions(dir))
	bob, bobRoot = mount()
	if got := mayDo(t, bob, bobRoot, 100); got != "read" {
		t.Errorf("after a restart bob may %q", got)
	}
	if err := r.DeleteUser(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	if got := mayDo(t, bob, bobRoot, 101); got != "" {
		t.Errorf("after the end of bob he may %q", got)
	}
}

func wantMalformed(err error) error {
	if errors.Is(err, policy.ErrMalformed) {
		return nil
	}
	return fmt.Errorf("taken: %w", err)
}

// TestDamagedUserIsPowerless starts with a policy and with a key that can't be used.
func TestDamagedUserIsPowerless(t *testing.T) {
	for name, damage := range map[string]func(*catalog.User) error{
		"policy": func(u *catalog.User) error { return u.PutPolicy("own", "{}") },
		"key":    func(u *catalog.User) error { u.AccessKeys[0].Sealed[50] ^= 1; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := start(t, testOptions(dir))
			id := r.create(t, "a")
			keyID, secret := r.newUser(t, "bob")
			r.stop(t)
			withCatalog(t, dir, func(c *catalog.Catalog) {
				if _, err := c.ChangeUser(t.Context(), "bob", damage); err != nil {
					t.Fatal(err)
				}
			})
			r = start(t, testOptions(dir))
			certificate := clientCertificate(t, &certificateTemplate{fileSystem: id, sign: r.signer(id, keyID, nil), secret: secret})
			_, err := nfsclient.New(t.Context(), r.dialWith(t, id, certificate), nfsclient.Options{})
			if !errors.Is(err, wire.NFS4ERR_ACCESS) || r.logs.FilterMessageSnippet("user is not known to clients").Len() != 1 {
				t.Errorf("mounted: %v", err)
			}
		})
	}
}
