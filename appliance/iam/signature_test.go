package iam_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/nfseal/nfseal/appliance/iam"
)

const (
	keyID  = "AKIDEXAMPLE000000000"
	secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

var when = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

// cases are what canonicalization can get wrong. target is the request target as it goes over the wire.
var cases = []struct {
	name, method, target, body string
	header                     http.Header
}{
	{"root", "GET", "/", "", nil},
	{"no query value", "GET", "/?Param1", "", nil},
	{"empty value", "GET", "/?Param1=", "", nil},
	{"order of names", "GET", "/?Param2=value2&Param1=value1", "", nil},
	{"order of values", "GET", "/?Param1=value2&Param1=Value1&Param1=value10", "", nil},
	{"order of encoded names", "GET", "/?a%2Fb=1&a-b=2&a=3&aa=4", "", nil},
	{"unreserved characters", "GET", "/?-._~0123456789abcxyzABCXYZ=-._~0123456789abcxyzABCXYZ", "", nil},
	{"space in query", "GET", "/?p=a%20b", "", nil},
	{"plus in query", "GET", "/?p=a%2Bb", "", nil},
	{"equals in value", "GET", "/?p=a%3Db%3D", "", nil},
	{"utf-8 in query", "GET", "/?%E1%88%B4=bar", "", nil},
	{"slash in value", "GET", "/?p=a%2Fb%3A", "", nil},
	{"lower case escapes", "GET", "/?p=%2f", "", nil},
	{"utf-8 in path", "GET", "/%E1%88%B4", "", nil},
	{"escaped slash in path", "GET", "/2015-02-01/resource-tags/arn%3Aaws%3Aelasticfilesystem%3Alocal-1%3A000000000000%3Afile-system%2Ffs-1", "", nil},
	{"colon in path", "GET", "/2015-02-01/resource-tags/fs:1", "", nil},
	{"space in path", "GET", "/a%20b", "", nil},
	{"star and tilde in path", "GET", "/a*b~c", "", nil},
	{"body", "POST", "/2015-02-01/file-systems", `{"CreationToken":"x"}`, http.Header{"Content-Type": {"application/x-amz-json-1.1"}}},
	{"target", "POST", "/", "{}", http.Header{"X-Amz-Target": {"TrentService.ListKeys"}}},
	{"spaces in header", "POST", "/", "", http.Header{"My-Header": {"  a   b   c  "}}},
	{"header with two values", "POST", "/", "", http.Header{"My-Header": {"b", "a"}}},
	{"header with list", "POST", "/", "", http.Header{"My-Header": {"b,a, c"}}},
	{"quoted spaces", "POST", "/", "", http.Header{"My-Header": {`"a   b   c"`}}},
	{"empty header", "POST", "/", "", http.Header{"My-Header": {""}}},
	{"other port", "GET", "/", "", http.Header{"Host": {"box.example:2051"}}},
	{"delete", "DELETE", "/2015-02-01/file-systems/fs-1", "", nil},
}

func signer() aws.Credentials { return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret} }

// outgoing is the request of a case before it is signed.
func outgoing(t *testing.T, method, target, body string, header http.Header) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, "https://box.example"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
		r.Header.Del("Host")
	}
	return r
}

// arrived is what a server sees of r.
func arrived(t *testing.T, r *http.Request, body string) *http.Request {
	t.Helper()
	got := httptest.NewRequest(r.Method, r.URL.RequestURI(), strings.NewReader(body))
	got.Host, got.Header = r.Host, r.Header.Clone()
	return got
}

func hashOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

func verify(r *http.Request, body string, now time.Time) error {
	s, err := iam.ParseSignature(r)
	if err != nil {
		return err
	}
	return s.Verify(r, []byte(body), iam.NewSecret(secret), now)
}

func TestSignedByTheSDK(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := outgoing(t, c.method, c.target, c.body, c.header)
			if err := v4.NewSigner().SignHTTP(context.Background(), signer(), r, hashOf(c.body), "kms", "local-1", when); err != nil {
				t.Fatal(err)
			}
			if err := verify(arrived(t, r, c.body), c.body, when); err != nil {
				t.Errorf("as signed: %v", err)
			}
			if err := verify(arrived(t, r, c.body), c.body+" ", when); !errors.Is(err, iam.ErrSignature) {
				t.Errorf("another body: %v", err)
			}
			changed := arrived(t, r, c.body)
			changed.Method = "PUT"
			if err := verify(changed, c.body, when); !errors.Is(err, iam.ErrSignature) {
				t.Errorf("another method: %v", err)
			}
		})
	}
}

func TestPresignedByTheSDK(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := outgoing(t, c.method, c.target, c.body, c.header)
			query := r.URL.Query()
			query.Set("X-Amz-Expires", "900")
			r.URL.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
			text, header, err := v4.NewSigner().PresignHTTP(context.Background(), signer(), r, hashOf(c.body), "kms", "local-1", when)
			if err != nil {
				t.Fatal(err)
			}
			signed, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			got := outgoing(t, c.method, signed.RequestURI(), c.body, header)
			for now, want := range map[time.Duration]error{
				0: nil, 15 * time.Minute: nil, 15*time.Minute + time.Second: iam.ErrTime, -6 * time.Minute: iam.ErrTime,
			} {
				if err := verify(arrived(t, got, c.body), c.body, when.Add(now)); !errors.Is(err, want) {
					t.Errorf("%v later: %v, want %v", now, err, want)
				}
			}
		})
	}
}

func TestRefusedSignatures(t *testing.T) {
	good := outgoing(t, "POST", "/?b=2&a=1", "{}", http.Header{"X-Amz-Target": {"TrentService.ListKeys"}})
	if err := v4.NewSigner().SignHTTP(context.Background(), signer(), good, hashOf("{}"), "kms", "local-1", when); err != nil {
		t.Fatal(err)
	}
	authorization := good.Header.Get("Authorization")
	replace := func(old, new string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", strings.Replace(authorization, old, new, 1)) }
	}
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		want   error
	}{
		"nothing changed":      {func(*http.Request) {}, nil},
		"no signature":         {func(r *http.Request) { r.Header.Del("Authorization") }, iam.ErrUnsigned},
		"two signatures":       {func(r *http.Request) { r.Header.Add("Authorization", authorization) }, iam.ErrIncomplete},
		"two forms":            {func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Signature=00" }, iam.ErrIncomplete},
		"basic":                {set("Authorization", "Basic QWxhZGRpbg=="), iam.ErrIncomplete},
		"other algorithm":      {replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), iam.ErrIncomplete},
		"short scope":          {replace("/aws4_request", ""), iam.ErrIncomplete},
		"other terminator":     {replace("aws4_request", "aws5_request"), iam.ErrIncomplete},
		"no key":               {replace(keyID, ""), iam.ErrIncomplete},
		"key of another shape": {replace(keyID, "../../etc/passwd0000"), iam.ErrIncomplete},
		"other day":            {replace("/20260203/", "/20260204/"), iam.ErrIncomplete},
		"other region":         {replace("/local-1/", "/local-2/"), iam.ErrSignature},
		"other service":        {replace("/kms/", "/sts/"), iam.ErrSignature},
		"host not signed":      {replace(";host;", ";"), iam.ErrIncomplete},
		"target not signed":    {replace(";x-amz-target", ""), iam.ErrSignature},
		"headers not in order": {replace("content-length;host", "host;content-length"), iam.ErrIncomplete},
		"digest too short":     {func(r *http.Request) { r.Header.Set("Authorization", authorization[:len(authorization)-2]) }, iam.ErrIncomplete},
		"digest no hex":        {replace("Signature=", "Signature=zz"), iam.ErrIncomplete},
		"no date":              {func(r *http.Request) { r.Header.Del("X-Amz-Date") }, iam.ErrIncomplete},
		"other date":           {set("X-Amz-Date", "20260203T040507Z"), iam.ErrSignature},
		"date of another form": {set("X-Amz-Date", when.Format(time.RFC1123)), iam.ErrIncomplete},
		"other target":         {set("X-Amz-Target", "TrentService.ScheduleKeyDeletion"), iam.ErrSignature},
		"another amz header":   {set("X-Amz-Security-Token", "token"), iam.ErrSignature},
		"other host":           {func(r *http.Request) { r.Host = "other.example" }, iam.ErrSignature},
		"other query":          {func(r *http.Request) { r.URL.RawQuery = "b=2&a=2" }, iam.ErrSignature},
		"query in other order": {func(r *http.Request) { r.URL.RawQuery = "a=1&b=2" }, nil},
		"damaged query":        {func(r *http.Request) { r.URL.RawQuery = "a=%zz" }, iam.ErrIncomplete},
		"other path":           {func(r *http.Request) { r.URL.Path = "/x" }, iam.ErrSignature},
		"other content hash":   {set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), iam.ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			r := arrived(t, good, "{}")
			c.change(r)
			if err := verify(r, "{}", when); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	for skew, want := range map[time.Duration]error{
		5 * time.Minute: nil, -5 * time.Minute: nil, 301 * time.Second: iam.ErrTime, -301 * time.Second: iam.ErrTime,
	} {
		if err := verify(arrived(t, good, "{}"), "{}", when.Add(skew)); !errors.Is(err, want) {
			t.Errorf("clock off by %v: %v, want %v", skew, err, want)
		}
	}
	s, err := iam.ParseSignature(arrived(t, good, "{}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(arrived(t, good, "{}"), []byte("{}"), iam.NewSecret(secret+"x"), when); !errors.Is(err, iam.ErrSignature) {
		t.Errorf("another secret: %v", err)
	}
}

func FuzzParseSignature(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE000000000/20260203/local-1/kms/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64), "a=1")
	f.Add("", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE000000000%2F20260203%2Flocal-1%2Fkms%2Faws4_request&X-Amz-Date=20260203T040506Z&X-Amz-Expires=9&X-Amz-SignedHeaders=host&X-Amz-Signature="+strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, authorization, query string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.RawQuery = query
		r.Header.Set("X-Amz-Date", "20260203T040506Z")
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		s, err := iam.ParseSignature(r)
		if err != nil {
			return
		}
		if err := s.Verify(r, nil, iam.NewSecret(secret), when); err == nil {
			t.Error("a request was accepted that nobody signed")
		}
	})
}
