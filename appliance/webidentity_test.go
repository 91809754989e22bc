package appliance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/oidc"
	"github.com/nfseal/nfseal/appliance/oidc/oidctest"
)

const botsIssuer = "https://issuer.example/cluster"

// knowing gives o a provider that signs with the signer's key.
func knowing(t *testing.T, o Options, signer *oidctest.Signer) Options {
	t.Helper()
	o.Identities = []oidc.Provider{{Issuer: botsIssuer, Audiences: []string{"sts.amazonaws.com"}, File: oidctest.WriteKeys(t, signer)}}
	return o
}

// botToken is a token of the provider for a subject.
func botToken(t *testing.T, signer *oidctest.Signer, subject string) string {
	t.Helper()
	now := time.Now().Unix()
	return signer.Token(t, map[string]any{"iss": botsIssuer, "sub": subject, "aud": []string{"sts.amazonaws.com"}, "iat": now, "nbf": now, "exp": now + 600})
}

// newBotRole makes a role that the provider's bot may assume.
func (r *running) newBotRole(t *testing.T, name string) {
	t.Helper()
	trust := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Federated":"` + iam.ProviderARN(botsIssuer) + `"},
		"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"issuer.example/cluster:sub":"bot","issuer.example/cluster:aud":"sts.amazonaws.com"}}}}`
	_, err := r.CreateRole(t.Context(), catalog.Role{Name: name, Trust: trust, MaxSessionSeconds: 3600, Policies: catalog.Policies{"own": mayEverything}})
	check(t, err)
}

// TestAWSCLIWithWebIdentity has the CLI assume a role with a token: by a command, and by itself from a token's file.
func TestAWSCLIWithWebIdentity(t *testing.T) {
	signer := oidctest.NewSigner(t, jose.RS256, "one")
	a := start(t, knowing(t, testOptions(t.TempDir()), signer))
	aws := newAWS(t, a, `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`)
	a.newBotRole(t, "bots")
	assume := func(role, subject string, more ...string) []string {
		return append([]string{"sts", "assume-role-with-web-identity", "--role-arn", iam.RoleARN(role), "--role-session-name", "night",
			"--web-identity-token", botToken(t, signer, subject)}, more...)
	}
	var got struct {
		SubjectFromWebIdentityToken, Provider, Audience string
		Credentials                                     struct{ AccessKeyId, SecretAccessKey, SessionToken string }
		AssumedRoleUser                                 struct{ Arn string }
	}
	bare := aws.with("AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=")
	bare.do(t, &got, assume("bots", "bot", "--no-sign-request", "--duration-seconds", "900")...)
	if got.SubjectFromWebIdentityToken != "bot" || got.Provider != botsIssuer || got.Audience != "sts.amazonaws.com" ||
		got.AssumedRoleUser.Arn != iam.SessionARN("bots", "night") {
		t.Errorf("%+v", got)
	}
	inSession := aws.with("AWS_ACCESS_KEY_ID="+got.Credentials.AccessKeyId, "AWS_SECRET_ACCESS_KEY="+got.Credentials.SecretAccessKey,
		"AWS_SESSION_TOKEN="+got.Credentials.SessionToken)
	inSession.do(t, nil, "efs", "describe-file-systems")
	aws.refused(t, "AccessDenied", assume("bots", "somebody")...)
	aws.refused(t, "AccessDenied", assume("none", "bot")...)
	aws.refused(t, "InvalidIdentityToken", append(assume("bots", "bot"), "--web-identity-token", botToken(t, oidctest.NewSigner(t, jose.RS256, "one"), "bot"))...)

	file := filepath.Join(t.TempDir(), "token")
	check(t, os.WriteFile(file, []byte(botToken(t, signer, "bot")), 0o600))
	byFile := bare.with("AWS_WEB_IDENTITY_TOKEN_FILE="+file, "AWS_ROLE_ARN="+iam.RoleARN("bots"), "AWS_ROLE_SESSION_NAME=job",
		"AWS_ENDPOINT_URL_STS="+a.frontURL(), "AWS_CA_BUNDLE="+a.dir.caFile())
	byFile.do(t, nil, "efs", "describe-file-systems")
	var who struct{ Arn string }
	byFile.do(t, &who, "sts", "get-caller-identity")
	if who.Arn != iam.SessionARN("bots", "job") {
		t.Errorf("with a token's file it is %s", who.Arn)
	}
	all := a.lookup(t, "AssumeRoleWithWebIdentity")
	if e := all[len(all)-1]; e.Identity.Type != "WebIdentityUser" || e.Identity.UserName != "bot" || !strings.HasSuffix(e.Parameters["roleArn"], "/bots") {
		t.Errorf("on record: %+v", e)
	}
}
