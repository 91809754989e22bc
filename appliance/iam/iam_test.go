package iam

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// sample is a connection whose signatures were computed with amazon-efs-utils 3.2.0.
func sample(token string) *Connect {
	hash, _ := hex.DecodeString("d9c2a68f2c4de49982e310d95e539a89abd6bc13")
	return &Connect{
		AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SessionToken: token, Region: "local-1", FileSystem: "fs-0123456789abcdef0",
		KeyHash: hash, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

var sampleSecret = NewSecret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")

func TestSignaturesOfEFSUtils(t *testing.T) {
	for token, want := range map[string]string{
		"":          "8fe35f154d2cfc30e8a2f6082588e862b257d0ffb50740e1b69b25c55b0887f8",
		"a+/b=c d~": "4913d8bdfc9260147dba70781affd02b852780323a332d914258c09362cf2ba7",
	} {
		if got := sample(token).Sign(sampleSecret); hex.EncodeToString(got[:]) != want {
			t.Errorf("token %q: %x, want %s", token, got, want)
		}
	}
}

// TestVerify forges one thing at a time.
func TestVerify(t *testing.T) {
	signature := sample("").Sign(sampleSecret)
	made := sample("").Time
	for name, c := range map[string]struct {
		change func(*Connect)
		secret Secret
		now    time.Time
		want   error
	}{
		"good":               {nil, sampleSecret, made.Add(time.Hour), nil},
		"good for a day":     {nil, sampleSecret, made.Add(24 * time.Hour), nil},
		"clocks differ":      {nil, sampleSecret, made.Add(-5 * time.Minute), nil},
		"old":                {nil, sampleSecret, made.Add(24*time.Hour + time.Second), ErrProofOld},
		"from the future":    {nil, sampleSecret, made.Add(-301 * time.Second), ErrProofFuture},
		"another secret":     {nil, NewSecret("x"), made, ErrProofSignature},
		"another key":        {func(c *Connect) { c.AccessKeyID = "AKIAIOSFODNN7EXAMPLF" }, sampleSecret, made, ErrProofSignature},
		"another region":     {func(c *Connect) { c.Region = "local-2" }, sampleSecret, made, ErrProofSignature},
		"another fs":         {func(c *Connect) { c.FileSystem = "fs-0123456789abcdef1" }, sampleSecret, made, ErrProofSignature},
		"another public key": {func(c *Connect) { c.KeyHash = make([]byte, 20) }, sampleSecret, made, ErrProofSignature},
		"another time":       {func(c *Connect) { c.Time = c.Time.Add(time.Second) }, sampleSecret, made, ErrProofSignature},
		"a token":            {func(c *Connect) { c.SessionToken = "t" }, sampleSecret, made, ErrProofSignature},
	} {
		connect := sample("")
		if c.change != nil {
			c.change(connect)
		}
		if err := connect.Verify(c.secret, signature, c.now); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestNewAccessKey(t *testing.T) {
	id, secret := NewAccessKey()
	again, other := NewAccessKey()
	if !ValidKeyID(id) || len(id) != 20 || len(secret.Reveal()) != secretChars || id == again || secret == other {
		t.Errorf("%s with %d characters, then %s", id, len(secret.Reveal()), again)
	}
}

// TestSecretIsNotShown goes through the ways in which a value reaches a log.
func TestSecretIsNotShown(t *testing.T) {
	type holder struct{ S Secret }
	h := holder{NewSecret("hidden")}
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%v %+v %#v %s %q %x %d", h, h, h, h.S, h.S, h.S, h.S) + string(text)
	if strings.Contains(shown, "hidden") || strings.Contains(shown, hex.EncodeToString([]byte("hidden"))) {
		t.Error(shown)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{"bob": true, "a@b.c": true, "": false, "a/b": false, strings.Repeat("x", 65): false, "é": false} {
		if ValidUser(name) != want {
			t.Errorf("user %q: %v", name, !want)
		}
	}
	if ValidKeyID("akia") || ValidPolicyName("a b") || !ValidPolicyName("read-only") {
		t.Error("key id or policy name")
	}
}
