package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

// spki is some public key.
func spki(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func extension(which int, hexDER string) pkix.Extension {
	der, err := hex.DecodeString(strings.ReplaceAll(hexDER, " ", ""))
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: append(append(asn1.ObjectIdentifier{}, claimsArc...), which), Value: der}
}

// proofHex is what openssl makes of efs-utils' configuration: id "AKIA", 64 hexadecimal digits,
// 260102030405Z, and perhaps a token in tag [0].
func proofHex(token string) string {
	body := "0c04 414b4941 0440" + strings.Repeat("61", 64) + "170d 3236303130323033303430355a" + token
	der, _ := hex.DecodeString(strings.ReplaceAll(body, " ", ""))
	return "30" + hex.EncodeToString([]byte{byte(len(der))}) + hex.EncodeToString(der)
}

func TestClaims(t *testing.T) {
	cert := &x509.Certificate{RawSubjectPublicKeyInfo: spki(t), Extensions: []pkix.Extension{
		{Id: asn1.ObjectIdentifier{2, 5, 29, 14}, Value: []byte("anything")},
		extension(1, "0c06 667361702d31"), extension(2, proofHex("a004 0c02 7878")), extension(3, "0c04 66732d31"),
		extension(4, "300b 0c05 6c6f63616c 0c02 3332"), extension(9, "ff"),
	}}
	c, err := ClaimsOf(cert)
	if err != nil {
		t.Fatal(err)
	}
	if c.AccessPoint != "fsap-1" || c.FileSystem != "fs-1" || c.Client != "local 32" {
		t.Errorf("%+v", c)
	}
	p := c.Proof
	if p == nil || p.AccessKeyID != "AKIA" || p.SessionToken != "xx" || p.Signature != [32]byte([]byte(strings.Repeat("\xaa", 32))) ||
		!p.Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("proof %+v", p)
	}
	cert.Extensions = []pkix.Extension{extension(2, proofHex(""))}
	if c, err = ClaimsOf(cert); err != nil || c.Proof == nil || c.Proof.SessionToken != "" {
		t.Errorf("without a token: %+v, %v", c.Proof, err)
	}
}

// TestMalformedClaims has each extension in a form that is nearly right.
func TestMalformedClaims(t *testing.T) {
	key := spki(t)
	for name, extensions := range map[string][]pkix.Extension{
		"twice":              {extension(3, "0c04 66732d31"), extension(3, "0c04 66732d31")},
		"empty name":         {extension(3, "0c00")},
		"PrintableString":    {extension(3, "1304 66732d31")},
		"something behind":   {extension(3, "0c04 66732d31 00")},
		"no UTF-8":           {extension(1, "0c01 ff")},
		"indefinite length":  {extension(3, "0c80 66 0000")},
		"huge length":        {extension(3, "0c84 ffffffff")},
		"too long":           {{Id: extension(3, "").Id, Value: make([]byte, maxClaimBytes+1)}},
		"proof cut short":    {extension(2, proofHex("")[:40])},
		"binary signature":   {extension(2, "3035 0c04 414b4941 0420"+strings.Repeat("aa", 32)+"170d 3236303130323033303430355a")},
		"signature of g":     {extension(2, strings.Replace(proofHex(""), "6161", "6761", 1))},
		"GeneralizedTime":    {extension(2, strings.Replace(proofHex(""), "170d", "180d", 1))},
		"time of a 13th":     {extension(2, strings.Replace(proofHex(""), "3236303130", "3236313330", 1))},
		"no access key":      {extension(2, strings.Replace(strings.Replace(proofHex(""), "0c04414b4941", "0c00", 1), "3057", "3053", 1))},
		"client as a string": {extension(4, "0c04 66732d31")},
	} {
		if _, err := ClaimsOf(&x509.Certificate{RawSubjectPublicKeyInfo: key, Extensions: extensions}); !errors.Is(err, ErrClaims) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ClaimsOf(&x509.Certificate{RawSubjectPublicKeyInfo: []byte{0x30, 0}}); !errors.Is(err, ErrClaims) {
		t.Errorf("no key: %v", err)
	}
}

// FuzzClaims reads extensions: what is taken has the shape that it must have.
func FuzzClaims(f *testing.F) {
	key := spki(f)
	for which, text := range map[int]string{1: "0c06667361702d31", 2: proofHex("a0040c027878"), 3: "0c0466732d31", 4: "300b0c056c6f63616c0c023332"} {
		f.Add(which, extension(which, text).Value)
	}
	f.Fuzz(func(t *testing.T, which int, der []byte) {
		e := extension(which, "")
		e.Value = der
		c, err := ClaimsOf(&x509.Certificate{RawSubjectPublicKeyInfo: key, Extensions: []pkix.Extension{e}})
		if err != nil {
			return
		}
		if c.Proof != nil && (c.Proof.AccessKeyID == "" || c.Proof.Time.IsZero()) {
			t.Errorf("%x gives %+v", der, c.Proof)
		}
	})
}
