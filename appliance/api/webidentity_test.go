package api

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/efs"
	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/oidc"
	"github.com/nfseal/nfseal/appliance/oidc/oidctest"
)

const (
	testIssuer    = "https://issuer.example/cluster"
	testProvider  = "arn:aws:iam::000000000000:oidc-provider/issuer.example/cluster"
	trustsTheBots = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Federated":"` + testProvider + `"},
		"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"issuer.example/cluster:aud":"sts","issuer.example/cluster:amr":"pwd"},
		"StringLike":{"issuer.example/cluster:sub":"bot:*","sts:RoleSessionName":"n*"},"Bool":{"aws:SecureTransport":"true"}}}}`
)

// federation is a front door, and a provider that it knows.
type federation struct {
	*door
	signer *oidctest.Signer
}

func newFederation(t *testing.T) *federation {
	t.Helper()
	signer := oidctest.NewSigner(t, jose.ES256, "one")
	identities, err := oidc.Open([]oidc.Provider{{Issuer: testIssuer, Audiences: []string{"sts", "other"}, File: oidctest.WriteKeys(t, signer)}}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return &federation{newDoorWith(t, Options{Identities: identities}), signer}
}

// token is one for a subject; more has other claims.
func (f *federation) token(t *testing.T, subject string, more ...any) string {
	t.Helper()
	claims := map[string]any{"iss": testIssuer, "sub": subject, "aud": "sts", "amr": []string{"pwd"}, "iat": time.Now().Unix(), "exp": time.Now().Unix() + 600}
	for i := 0; i < len(more); i += 2 {
		claims[more[i].(string)] = more[i+1]
	}
	return f.signer.Token(t, claims)
}

// webIdentityForm asks for the role r.
func webIdentityForm(token string, more ...string) url.Values {
	form := url.Values{
		"Action": {webIdentityAction}, "Version": {stsVersion}, "RoleArn": {iam.RoleARN("r")}, "RoleSessionName": {"night"}, "WebIdentityToken": {token},
	}
	for i := 0; i < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return form
}

// codeOf is the code of an answer of STS, "" for none.
func codeOf(t *testing.T, body string) string {
	t.Helper()
	var refused stsError
	if strings.Contains(body, "<ErrorResponse") {
		if err := xml.Unmarshal([]byte(body), &refused); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
	}
	return refused.Code
}

// TestWebIdentityRole assumes a role with nothing but a token, and follows what becomes of the session.
func TestWebIdentityRole(t *testing.T) {
	f := newFederation(t)
	f.role(t, "r", trustsTheBots, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:FederatedProvider":"`+testProvider+`"}}}}`)
	token := f.token(t, "bot:1")
	var got webIdentityRole
	status, body := f.stsCall(t, aws.Config{}, nil, webIdentityForm(token, "DurationSeconds", "900", "Policy", everything).Encode())
	if err := xml.Unmarshal([]byte(body), &got); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s, %v", status, body, err)
	}
	if got.Subject != "bot:1" || got.Provider != testIssuer || got.Audience != "sts" || got.ARN != "arn:aws:sts::000000000000:assumed-role/r/night" ||
		!strings.HasSuffix(got.ID, ":night") || *got.PackedPolicySize != 5 || got.RequestID == "" {
		t.Errorf("%s", body)
	}
	e := f.log.events[0]
	if e.Source != "sts" || e.Name != webIdentityAction || e.Identity.Type != "WebIdentityUser" || e.Identity.UserName != "bot:1" ||
		e.Identity.Provider != testProvider || e.Identity.Principal != testProvider+":sts:bot:1" || e.Address != "127.0.0.1" ||
		e.Parameters["accessKeyId"] != got.Credentials.AccessKeyID || e.Parameters["roleArn"] != iam.RoleARN("r") {
		t.Errorf("the record: %+v", e)
	}
	if strings.Contains(fmt.Sprintf("%+v", f.log.events), token) {
		t.Error("the token is on record")
	}
	session := with(f.config(t, "bob", denyEverything), got.Credentials)
	if _, err := efs.NewFromConfig(session).DescribeFileSystems(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if e := f.last(); e.Identity.Type != "AssumedRole" || e.Identity.Principal != got.ARN {
		t.Errorf("the session's record: %+v", e.Identity)
	}
	if err := f.backend.DeleteRole(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	_, err := efs.NewFromConfig(session).DescribeFileSystems(t.Context(), nil)
	wantCode(t, err, "UnrecognizedClientException")
}

// TestWebIdentityForms: the parameters come in the query or the body, signed or not.
func TestWebIdentityForms(t *testing.T) {
	f := newFederation(t)
	f.role(t, "r", trustsTheBots, everything)
	form := webIdentityForm(f.token(t, "bot:1", "x", strings.Repeat("x", 14000))).Encode()
	if len(form) < 18000 {
		t.Fatalf("the form has %d bytes", len(form))
	}
	response, err := f.Client().Get(f.URL + "/?" + form)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("in the query: %d", response.StatusCode)
	}
	bob := f.config(t, "bob", denyEverything)
	if status, body := f.stsCall(t, bob, v4.NewSigner(), form); status != http.StatusOK {
		t.Errorf("signed: %d %s", status, body)
	}
	if e := f.last(); e.Identity.UserName != "bot:1" {
		t.Errorf("signed by bob: %+v", e.Identity)
	}
}

func TestWebIdentityRefused(t *testing.T) {
	f := newFederation(t)
	f.role(t, "r", trustsTheBots, everything)
	f.role(t, "everybodys", `{"Statement":{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:*"}}`, everything)
	f.role(t, "accounts", strings.Replace(trustsAccount, "AssumeRole", "*", 1), everything)
	good, now := f.token(t, "bot:1"), time.Now().Unix()
	for _, test := range []struct {
		what, token string
		more        []string
		status      int
		code        string
		recorded    bool
	}{
		{"a good one", good, nil, 200, "", true},
		{"no token", "", nil, 400, "InvalidIdentityToken", false},
		{"an altered one", good[:len(good)-8] + "AAAAAAAA", nil, 400, "InvalidIdentityToken", false},
		{"one of an unknown issuer", f.token(t, "bot:1", "iss", "https://x.example"), nil, 400, "InvalidIdentityToken", false},
		{"one that is over", f.token(t, "bot:1", "exp", now-400), nil, 400, "ExpiredTokenException", false},
		{"one of later", f.token(t, "bot:1", "nbf", now+400), nil, 403, "IDPRejectedClaim", false},
		{"one of OAuth", good, []string{"ProviderId", "graph.facebook.com"}, 400, "ValidationError", false},
		{"somebody else", f.token(t, "eve"), nil, 403, "AccessDenied", true},
		{"another audience", f.token(t, "bot:1", "aud", "other"), nil, 403, "AccessDenied", true},
		{"another amr", f.token(t, "bot:1", "amr", nil), nil, 403, "AccessDenied", true},
		{"another session", good, []string{"RoleSessionName", "day"}, 403, "AccessDenied", true},
		{"no role", good, []string{"RoleArn", iam.RoleARN("none")}, 403, "AccessDenied", true},
		{"everybody of an account", good, []string{"RoleArn", iam.RoleARN("everybodys")}, 403, "AccessDenied", true},
		{"members of the account", good, []string{"RoleArn", iam.RoleARN("accounts")}, 403, "AccessDenied", true},
		{"too long", good, []string{"DurationSeconds", "7201"}, 400, "ValidationError", true},
		{"a malformed policy", good, []string{"Policy", "{"}, 400, "MalformedPolicyDocument", true},
		{"managed policies", good, []string{"PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/x"}, 400, "ValidationError", true},
	} {
		before := len(f.log.events)
		status, body := f.stsCall(t, aws.Config{}, nil, webIdentityForm(test.token, test.more...).Encode())
		if status != test.status || codeOf(t, body) != test.code {
			t.Errorf("%s: %d %s", test.what, status, body)
		}
		if recorded := len(f.log.events) > before; recorded != test.recorded {
			t.Errorf("%s: on record %v", test.what, recorded)
		}
		if test.code == "AccessDenied" && !strings.Contains(body, "<Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message>") {
			t.Errorf("%s: %s", test.what, body)
		}
	}
}

// TestNothingElseComesInUnsigned: the name of the operation opens nothing but itself.
func TestNothingElseComesInUnsigned(t *testing.T) {
	f := newFederation(t)
	f.role(t, "r", trustsTheBots, everything)
	form := webIdentityForm(f.token(t, "bot:1")).Encode()
	for what, call := range map[string]struct{ method, target, header, body string }{
		"another operation":      {"POST", "/", "", strings.Replace(form, webIdentityAction, "AssumeRole", 1)},
		"two operations":         {"POST", "/?Action=" + webIdentityAction, "", "Action=GetCallerIdentity&Version=" + stsVersion},
		"two in the body":        {"POST", "/", "", "Action=GetCallerIdentity&" + form},
		"two in the query":       {"GET", "/?Action=GetCallerIdentity&" + form, "", ""},
		"the target of KMS":      {"POST", "/?" + form, "TrentService.ListKeys", "{}"},
		"a path of EFS":          {"GET", efsPath + "file-systems?" + form, "", ""},
		"a path of the own API":  {"POST", rolesPath + "?" + form, "", "{}"},
		"another method":         {"PUT", "/?" + form, "", ""},
		"a body that can't be":   {"POST", "/", "", form + "&x=%zz"},
		"an operation elsewhere": {"POST", "/x", "", form},
	} {
		r, err := http.NewRequest(call.method, f.URL+call.target, strings.NewReader(call.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if call.header != "" {
			r.Header.Set("X-Amz-Target", call.header)
		}
		response, err := f.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden || len(f.log.events) != 0 {
			t.Errorf("%s: %d, %d records", what, response.StatusCode, len(f.log.events))
		}
	}
	status, body := f.stsCall(t, aws.Config{}, nil, form+"&x="+strings.Repeat("x", maxUnsignedBytes))
	if status != 400 || codeOf(t, body) != "ValidationError" {
		t.Errorf("a long body: %d %s", status, body)
	}
}

// TestUnsignedCallsAreThrottled: an address that sends more than its share is refused before anything of its calls is looked at.
func TestUnsignedCallsAreThrottled(t *testing.T) {
	now := time.Now()
	d := newDoorWith(t, Options{Clock: func() time.Time { return now }})
	throttled := 0
	for range unsignedBurst + 10 {
		status, body := d.stsCall(t, aws.Config{}, nil, webIdentityForm("x").Encode())
		if status == http.StatusTooManyRequests && codeOf(t, body) == "Throttling" {
			throttled++
		}
	}
	if throttled != 10 {
		t.Errorf("%d were throttled, want 10", throttled)
	}
}
