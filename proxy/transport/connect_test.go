package transport

import (
	"encoding/hex"
	"errors"
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

const sampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

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
		secret string
		now    time.Time
		want   error
	}{
		"good":               {nil, sampleSecret, made.Add(time.Hour), nil},
		"good for a day":     {nil, sampleSecret, made.Add(24 * time.Hour), nil},
		"clocks differ":      {nil, sampleSecret, made.Add(-5 * time.Minute), nil},
		"old":                {nil, sampleSecret, made.Add(24*time.Hour + time.Second), ErrProofOld},
		"from the future":    {nil, sampleSecret, made.Add(-301 * time.Second), ErrProofFuture},
		"another secret":     {nil, "x", made, ErrProofSignature},
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
