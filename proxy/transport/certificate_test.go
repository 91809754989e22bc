package transport

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestCertificateMakesItsClaims reads back what a certificate was made of.
func TestCertificateMakesItsClaims(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, i := range []ClientIdentity{
		{FileSystem: "fs-1", Region: "local-1", Source: "s", Version: "v"},
		{FileSystem: "fs-1", AccessPoint: "fsap-1", Region: "local-1", AccessKeyID: "AKIA", SecretAccessKey: "secret", SessionToken: "token"},
	} {
		made, err := i.Certificate(now)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(made.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		c, err := ClaimsOf(cert)
		if err != nil {
			t.Fatal(err)
		}
		if c.FileSystem != i.FileSystem || c.AccessPoint != i.AccessPoint || c.Client != i.Source+" "+i.Version ||
			!c.NotBefore.Equal(now.Add(-15*time.Minute).Truncate(time.Second)) || !c.NotAfter.Equal(now.Add(3*time.Hour).Truncate(time.Second)) {
			t.Errorf("%+v", c)
		}
		if i.AccessKeyID == "" {
			if c.Proof != nil {
				t.Errorf("a proof of nothing: %+v", c.Proof)
			}
			continue
		}
		connect := Connect{AccessKeyID: "AKIA", SessionToken: "token", Region: "local-1", FileSystem: "fs-1", KeyHash: c.KeyHash[:], Time: c.Proof.Time}
		if err := connect.Verify("secret", c.Proof.Signature, now); err != nil || c.Proof.AccessKeyID != "AKIA" || c.Proof.SessionToken != "token" {
			t.Errorf("%+v: %v", c.Proof, err)
		}
	}
}

// TestIdentityHidesItsSecret goes through the ways in which a value reaches a log.
func TestIdentityHidesItsSecret(t *testing.T) {
	i := ClientIdentity{FileSystem: "fs-1", SecretAccessKey: "hidden", SessionToken: "hidden"}
	text, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	if shown := fmt.Sprintf("%v %+v %#v %s %q", i, &i, i, i, i) + string(text); strings.Contains(shown, "hidden") {
		t.Error(shown)
	}
}
