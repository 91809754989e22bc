package iam

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/policy"
)

func someSession() *Session {
	issued := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := &Session{
		Role: "reader", Name: "night", HolderID: RoleID("reader", issued), Issued: issued, Expires: issued.Add(time.Hour),
		Policy:   `{"Statement":{"Effect":"Allow","Action":"x:Read","Resource":"*"}}`,
		Provider: ProviderARN("https://issuer.example"),
	}
	s.NewKey()
	return s
}

func TestSessionSurvivesItsToken(t *testing.T) {
	s := someSession()
	text, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := OpenToken(Token(text))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeSession(sealed); err != nil || *got != *s || !strings.HasPrefix(got.KeyID, "ASIA") || !ValidKeyID(got.KeyID) {
		t.Errorf("%+v, %v, want %+v", got, err, s)
	}
	if shown := fmt.Sprintf("%v %+v %#v", s, *s, *s); strings.Contains(shown, s.Secret.Reveal()) {
		t.Error("formatted with its secret")
	}
}

func TestTokensThatAreNone(t *testing.T) {
	for _, token := range []string{"a b", "====", strings.Repeat("A", maxTokenChars+1)} {
		if _, err := OpenToken(token); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("%.10q: %v", token, err)
		}
	}
	if _, err := DecodeSession([]byte("x")); err == nil {
		t.Error("a session that is no JSON")
	}
}

func TestRoleCaller(t *testing.T) {
	s := someSession()
	c := NewRole(s.Role, s.HolderID, s.Name, nil)
	if err := c.In(s); err != nil {
		t.Fatal(err)
	}
	r := c.Request("x:Read", "arn:aws:x:::a")
	for key, want := range map[string]string{
		"aws:PrincipalArn": "arn:aws:iam::000000000000:role/reader", "aws:userid": s.HolderID + ":night", "aws:PrincipalType": "AssumedRole",
		"aws:PrincipalAccount": "000000000000", "aws:TokenIssueTime": "2026-01-02T03:04:05Z", "aws:MultiFactorAuthPresent": "false",
	} {
		if got := r.Context[key]; len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if r.Context["aws:username"] != nil || r.Principal.ARN != "arn:aws:sts::000000000000:assumed-role/reader/night" || c.Holder() != RoleARN("reader") {
		t.Errorf("%+v", r)
	}
	everything, err := policy.Parse(policy.Identity, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if !policy.Evaluate(&r, []*policy.Document{everything}, nil, policy.Either).Allowed() {
		t.Error("what both policies allow is denied")
	}
	r.Action = "x:Write"
	if policy.Evaluate(&r, []*policy.Document{everything}, nil, policy.Either).Allowed() {
		t.Error("what the session's policy does not allow is allowed")
	}
}

func TestSessionPolicyIsBounded(t *testing.T) {
	long := `{"Statement":{"Effect":"Allow","Action":"x:Read","Resource":"arn:aws:x:::` + strings.Repeat("a", MaxSessionPolicyBytes) + `"}}`
	if _, err := ParseSessionPolicy(long); !errors.Is(err, policy.ErrMalformed) {
		t.Error(err)
	}
}
