package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/nfseal/nfseal/appliance/iam"
)

const denyEverything = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`

// stsCall sends a form to STS, signed with the credentials of config, or not at all without a signer.
func (d *door) stsCall(t *testing.T, config aws.Config, signer *v4.Signer, form string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, d.URL+"/", strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	if signer != nil {
		credentials, err := config.Credentials.Retrieve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(form))
		if err := signer.SignHTTP(t.Context(), credentials, r, hex.EncodeToString(sum[:]), "sts", "local-1", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	response, err := d.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// Who is denied everything may still ask who it is.
func TestCallerIdentity(t *testing.T) {
	d := newDoor(t)
	status, body := d.stsCall(t, d.config(t, "bob", denyEverything), v4.NewSigner(), "Action=GetCallerIdentity&Version=2011-06-15")
	var got callerIdentity
	if err := xml.Unmarshal([]byte(body), &got); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s, %v", status, body, err)
	}
	want := iam.UserID("bob", time.Unix(1700000000, 0))
	if got.ARN != "arn:aws:iam::000000000000:user/bob" || got.Account != OwnerID || got.UserID != want || got.Metadata.RequestID == "" {
		t.Errorf("%s", body)
	}
	if e := d.log.events[0]; e.Source != "sts" || e.Name != "GetCallerIdentity" || e.Identity.Principal != got.ARN {
		t.Errorf("the record: %+v", e)
	}
}

func TestSTSRefuses(t *testing.T) {
	d := newDoor(t)
	config := d.config(t, "bob", everything)
	stranger := config.Copy()
	stranger.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIAAAAAAAAAAAAAAAAA", SecretAccessKey: "x"}, nil
	})
	for _, test := range []struct {
		config aws.Config
		signer *v4.Signer
		form   string
		status int
		code   string
	}{
		{config, v4.NewSigner(), "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::000000000000:role/r&RoleSessionName=night", 403, "AccessDenied"},
		{config, v4.NewSigner(), "Action=GetFederationToken&Version=2011-06-15&Name=s", 403, "AccessDenied"},
		{config, v4.NewSigner(), "Action=GetCallerIdentity&Version=2012-10-17", 400, "InvalidAction"},
		{config, v4.NewSigner(), "Action=ListUsers&Version=2011-06-15", 400, "InvalidAction"},
		{config, v4.NewSigner(), "", 400, "InvalidAction"},
		{config, v4.NewSigner(), "Action=%zz", 400, "MalformedQueryString"},
		{config, nil, "Action=GetCallerIdentity&Version=2011-06-15", 403, "MissingAuthenticationToken"},
		{stranger, v4.NewSigner(), "Action=GetCallerIdentity&Version=2011-06-15", 403, "InvalidClientTokenId"},
	} {
		status, body := d.stsCall(t, test.config, test.signer, test.form)
		var got stsError
		if err := xml.Unmarshal([]byte(body), &got); err != nil || status != test.status || got.Code != test.code || got.Type != "Sender" || got.RequestID == "" {
			t.Errorf("%s: %d %s, %v", test.form, status, body, err)
		}
	}
	if n := len(d.log.events); n != 2 {
		t.Errorf("%d records, want those of the two known operations", n)
	}
	d.log.err = errors.New("the disk is full")
	if status, body := d.stsCall(t, config, v4.NewSigner(), "Action=GetCallerIdentity&Version=2011-06-15"); status != 500 || !strings.Contains(body, "<Code>InternalFailure</Code>") {
		t.Errorf("unrecorded: %d %s", status, body)
	}
}
