package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/transport"
)

const someCredentials = `# keys
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key=first=secret
region = x

[ other ]
AWS_ACCESS_KEY_ID = AKIAOTHER
aws_secret_access_key = second
aws_session_token = token

[empty]
aws_access_key_id = AKIAEMPTY
`

func TestParseCredentials(t *testing.T) {
	for profile, want := range map[string]credentials{
		"default": {"AKIADEFAULT", "first=secret", ""}, "other": {"AKIAOTHER", "second", "token"},
	} {
		if got, err := parseCredentials(strings.NewReader(someCredentials), profile); err != nil || got != want {
			t.Errorf("%s: %v", profile, err)
		}
	}
	for profile, want := range map[string]string{"none": `no profile "none"`, "empty": "needs aws_access_key_id and"} {
		_, err := parseCredentials(strings.NewReader(someCredentials), profile)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret=") {
			t.Errorf("%s: %v", profile, err)
		}
	}
}

func TestReadCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials")
	if _, err := readCredentials(path, "default"); err == nil || !strings.Contains(err.Error(), "aws configure") {
		t.Errorf("missing: %v", err)
	}
	if err := os.WriteFile(path, []byte(someCredentials), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readCredentials(path, "default"); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := readCredentials(path, "default"); err != nil || c.keyID != "AKIADEFAULT" {
		t.Errorf("%v", err)
	}
}

// TestShownIdentity lets the mount helper connect, and reads what it showed the server.
func TestShownIdentity(t *testing.T) {
	needRoot(t)
	shown := make(chan []*x509.Certificate, 4)
	b := newBedWith(t, good(t, nil), func(state tls.ConnectionState) error {
		shown <- state.PeerCertificates
		return nil
	})
	b.places.credentials = filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(b.places.credentials, []byte(someCredentials), 0o600); err != nil {
		t.Fatal(err)
	}
	const region = "local-1"
	for name, c := range map[string]struct{ options, accessPoint, keyID, secret string }{
		"nothing":         {"", "", "", ""},
		"an access point": {"accesspoint=fsap-0123456789abcdef0", "fsap-0123456789abcdef0", "", ""},
		"iam":             {"iam", "", "AKIADEFAULT", "first=secret"},
		"another profile": {"tls,iam,awsprofile=other", "", "AKIAOTHER", "second"},
	} {
		status, _, stderr := b.mount(t, c.options, "-f")
		if status != exitOK {
			t.Errorf("%s: %d %s", name, status, stderr)
			continue
		}
		certificates := <-shown
		if c.options == "" {
			if len(certificates) != 0 {
				t.Errorf("%s: %d certificates", name, len(certificates))
			}
			continue
		}
		claims, err := transport.ClaimsOf(certificates[0])
		if err != nil || claims.FileSystem != "fs-0123456789abcdef0" || claims.AccessPoint != c.accessPoint {
			t.Errorf("%s: %+v, %v", name, claims, err)
		}
		if c.keyID == "" {
			if claims.Proof != nil {
				t.Errorf("%s: proved to be %s", name, claims.Proof.AccessKeyID)
			}
			continue
		}
		connect := transport.Connect{
			AccessKeyID: c.keyID, SessionToken: claims.Proof.SessionToken, Region: region, FileSystem: claims.FileSystem,
			KeyHash: claims.KeyHash[:], Time: claims.Proof.Time,
		}
		if err := connect.Verify(c.secret, claims.Proof.Signature, time.Now()); err != nil || claims.Proof.AccessKeyID != c.keyID {
			t.Errorf("%s: proof %s: %v", name, hex.EncodeToString(claims.Proof.Signature[:]), err)
		}
	}
}

// TestIdentityMistakes are those of whoever calls.
func TestIdentityMistakes(t *testing.T) {
	needRoot(t)
	b := newBed(t, good(t, nil))
	b.places.credentials = filepath.Join(t.TempDir(), "none")
	for options, want := range map[string]string{
		"iam":                "aws configure",
		"awsprofile=x":       "needs iam",
		"notls,iam":          "need tls",
		"accesspoint=fsap-1": "not fsap- and 17 hexadecimal digits",
		"iam=yes":            "takes no value",
		"notls,accesspoint=fsap-0123456789abcdef0": "need tls",
	} {
		if status, _, stderr := b.mount(t, options, "-f"); status == exitOK || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d %s", options, status, stderr)
		}
	}
}
