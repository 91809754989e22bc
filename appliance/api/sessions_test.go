package api

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/efs"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// role makes a role.
func (d *door) role(t *testing.T, name, trust, document string) {
	t.Helper()
	role := catalog.Role{Name: name, Trust: trust, MaxSessionSeconds: 7200, Policies: catalog.Policies{"own": document}}
	if _, err := d.backend.CreateRole(t.Context(), role); err != nil {
		t.Fatal(err)
	}
}

// call sends a form to STS, and reads the answer.
func (d *door) call(t *testing.T, config aws.Config, into any, action string, more ...string) (status int, code string) {
	t.Helper()
	form := url.Values{"Action": {action}, "Version": {stsVersion}}
	for i := 0; i < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	status, body := d.stsCall(t, config, v4.NewSigner(), form.Encode())
	if status != http.StatusOK {
		var refused stsError
		if err := xml.Unmarshal([]byte(body), &refused); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		return status, refused.Code
	}
	if err := xml.Unmarshal([]byte(body), into); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return status, ""
}

// with is config with other credentials.
func with(config aws.Config, c Credentials) aws.Config {
	other := config.Copy()
	other.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}, nil
	})
	return other
}

func (d *door) assume(t *testing.T, config aws.Config, role string, more ...string) assumedRole {
	t.Helper()
	var got assumedRole
	more = append([]string{"RoleArn", "arn:aws:iam::000000000000:role/" + role, "RoleSessionName", "night"}, more...)
	if status, code := d.call(t, config, &got, "AssumeRole", more...); status != http.StatusOK {
		t.Fatalf("%s: %d %s", role, status, code)
	}
	return got
}

const trustsAccount = `{"Statement":{"Effect":"Allow","Principal":{"AWS":"000000000000"},"Action":"sts:AssumeRole"}}`

// A session of a role may do what the role may, under its own name, until its end.
func TestAssumedRole(t *testing.T) {
	d := newDoor(t)
	d.role(t, "r", trustsBob, everything)
	bob := d.config(t, "bob", anyUserPolicy)
	before := time.Now().Truncate(time.Second)
	got := d.assume(t, bob, "r", "DurationSeconds", "900")
	end, err := time.Parse(time.RFC3339, got.Credentials.Expiration)
	if err != nil || end.Before(before.Add(900*time.Second)) || end.After(time.Now().Add(901*time.Second)) {
		t.Errorf("ends at %v, %v", end, err)
	}
	if got.ARN != "arn:aws:sts::000000000000:assumed-role/r/night" || !strings.HasSuffix(got.ID, ":night") || got.PackedPolicySize != nil {
		t.Errorf("%+v", got)
	}
	session := with(bob, got.Credentials)
	var who callerIdentity
	if d.call(t, session, &who, "GetCallerIdentity"); who.ARN != got.ARN || who.UserID != got.ID {
		t.Errorf("it is %+v", who)
	}
	client := efs.NewFromConfig(session)
	if _, err := client.CreateFileSystem(t.Context(), &efs.CreateFileSystemInput{CreationToken: aws.String("x")}); err != nil {
		t.Error(err)
	}
	_, err = efs.NewFromConfig(bob).DescribeFileSystems(t.Context(), nil)
	wantCode(t, err, "AccessDeniedException") // bob himself may not
	first, last := d.log.events[0], d.log.events[2]
	if first.Parameters["accessKeyId"] != got.Credentials.AccessKeyID || last.Identity.AccessKeyID != got.Credentials.AccessKeyID ||
		last.Identity.Type != "AssumedRole" || last.Identity.Principal != got.ARN {
		t.Errorf("recorded %+v, then %+v", first, last)
	}
	if shown := fmt.Sprint(d.log.events); strings.Contains(shown, got.Credentials.SecretAccessKey) || strings.Contains(shown, got.Credentials.SessionToken) {
		t.Error("a secret is on record")
	}
	d.backend.Now = func() time.Time { return end }
	_, err = client.DescribeFileSystems(t.Context(), nil)
	wantCode(t, err, "ExpiredTokenException")
	if status, code := d.call(t, session, nil, "GetCallerIdentity"); status != 403 || code != "ExpiredToken" {
		t.Errorf("%d %s", status, code)
	}
}

// A presigned request carries the token in its query, where it is signed with the rest.
func TestPresignedWithSessionToken(t *testing.T) {
	d := newDoor(t)
	d.role(t, "r", trustsBob, everything)
	bob := d.config(t, "bob", anyUserPolicy)
	c := d.assume(t, bob, "r").Credentials
	r, err := http.NewRequest(http.MethodGet, d.URL+efsPath+"file-systems?X-Amz-Expires=60", nil)
	if err != nil {
		t.Fatal(err)
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	signed, _, err := v4.NewSigner().PresignHTTP(t.Context(), aws.Credentials{
		AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken,
	}, r, empty, "elasticfilesystem", "local-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for target, status := range map[string]int{
		signed: 200,
		strings.Replace(signed, url.QueryEscape(c.SessionToken), "x", 1):                         403,
		strings.Replace(signed, "&X-Amz-Security-Token="+url.QueryEscape(c.SessionToken), "", 1): 403,
	} {
		response, err := d.Client().Get(target)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status {
			t.Errorf("%d, want %d: %s", response.StatusCode, status, target)
		}
	}
}

func TestTokenAndKeyBelongTogether(t *testing.T) {
	d := newDoor(t)
	d.role(t, "r", trustsBob, everything)
	bob := d.config(t, "bob", anyUserPolicy)
	one, two := d.assume(t, bob, "r").Credentials, d.assume(t, bob, "r").Credentials
	mixed, bare, wrong := one, one, one
	mixed.SessionToken, bare.SessionToken, wrong.SecretAccessKey = two.SessionToken, "", two.SecretAccessKey
	for name, c := range map[string]Credentials{"another's token": mixed, "no token": bare} {
		_, err := efs.NewFromConfig(with(bob, c)).DescribeFileSystems(t.Context(), nil)
		t.Log(name)
		wantCode(t, err, "UnrecognizedClientException")
	}
	_, err := efs.NewFromConfig(with(bob, wrong)).DescribeFileSystems(t.Context(), nil)
	wantCode(t, err, "InvalidSignatureException")
}

// A session's policy takes from what the role may, and is never more than that.
func TestSessionPolicy(t *testing.T) {
	d := newDoor(t)
	d.role(t, "r", trustsBob, `{"Statement":{"Effect":"Allow","Action":["elasticfilesystem:Describe*","elasticfilesystem:Create*"],"Resource":"*"}}`)
	bob := d.config(t, "bob", anyUserPolicy)
	limit := `{"Statement":{"Effect":"Allow","Action":["elasticfilesystem:Describe*","elasticfilesystem:Delete*"],"Resource":"*"}}`
	got := d.assume(t, bob, "r", "Policy", limit)
	if got.PackedPolicySize == nil || *got.PackedPolicySize < 1 || *got.PackedPolicySize > 10 {
		t.Errorf("packed to %v percent", got.PackedPolicySize)
	}
	client := efs.NewFromConfig(with(bob, got.Credentials))
	if _, err := client.DescribeFileSystems(t.Context(), nil); err != nil {
		t.Error(err)
	}
	_, err := client.CreateFileSystem(t.Context(), &efs.CreateFileSystemInput{CreationToken: aws.String("x")})
	wantCode(t, err, "AccessDeniedException")
	_, err = client.DeleteFileSystem(t.Context(), &efs.DeleteFileSystemInput{FileSystemId: aws.String("fs-00000000000000001")})
	wantCode(t, err, "AccessDeniedException")
}

func TestAssumeRoleRefuses(t *testing.T) {
	d := newDoor(t)
	d.role(t, "bobs", trustsBob, everything)
	d.role(t, "all", trustsAccount, everything)
	d.role(t, "external", strings.Replace(trustsBob, `"Action":"sts:AssumeRole"`,
		`"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"x"}}`, 1), everything)
	bob, eve := d.config(t, "bob", anyUserPolicy), d.config(t, "eve", everything)
	const arn = "arn:aws:iam::000000000000:role/"
	for _, test := range []struct {
		who    aws.Config
		role   string
		status int
		code   string
		more   []string
	}{
		{bob, arn + "bobs", 200, "", nil},
		{eve, arn + "bobs", 403, "AccessDenied", nil},
		{eve, arn + "all", 200, "", nil},
		{bob, arn + "all", 403, "AccessDenied", nil},
		{bob, arn + "none", 403, "AccessDenied", nil},
		{bob, "arn:aws:iam::111122223333:role/bobs", 403, "AccessDenied", nil},
		{bob, arn + "a/b", 403, "AccessDenied", nil},
		{bob, "bobs", 400, "ValidationError", nil},
		{bob, arn + "external", 403, "AccessDenied", nil},
		{bob, arn + "external", 403, "AccessDenied", []string{"ExternalId", "y"}},
		{bob, arn + "external", 200, "", []string{"ExternalId", "x"}},
		{bob, arn + "bobs", 400, "ValidationError", []string{"RoleSessionName", "a/b"}},
		{bob, arn + "bobs", 400, "ValidationError", []string{"RoleSessionName", ""}},
		{bob, arn + "bobs", 400, "ValidationError", []string{"DurationSeconds", "899"}},
		{bob, arn + "bobs", 400, "ValidationError", []string{"DurationSeconds", "7201"}},
		{bob, arn + "bobs", 400, "ValidationError", []string{"DurationSeconds", "99999999999999999999"}},
		{bob, arn + "bobs", 400, "ValidationError", []string{"DurationSeconds", "x"}},
		{bob, arn + "bobs", 200, "", []string{"DurationSeconds", "7200"}},
		{bob, arn + "bobs", 400, "MalformedPolicyDocument", []string{"Policy", "{}"}},
		{bob, arn + "bobs", 400, "MalformedPolicyDocument", []string{"Policy", strings.Repeat(" ", 2048) + anyUserPolicy}},
		{bob, arn + "bobs", 400, "ValidationError", []string{"PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/ReadOnlyAccess"}},
		{bob, arn + "bobs", 400, "ValidationError", []string{"Tags.member.1.Key", "a", "Tags.member.1.Value", "b"}},
		{bob, arn + "bobs", 400, "ValidationError", []string{"SerialNumber", "arn:aws:iam::000000000000:mfa/bob", "TokenCode", "123456"}},
	} {
		more := append([]string{"RoleArn", test.role, "RoleSessionName", "night"}, test.more...)
		if status, code := d.call(t, test.who, &assumedRole{}, "AssumeRole", more...); status != test.status || code != test.code {
			t.Errorf("%s %v: %d %s, want %d %s", test.role, test.more, status, code, test.status, test.code)
		}
	}
}

// A session may assume a role that trusts its own; then for an hour at most.
func TestRoleChaining(t *testing.T) {
	d := newDoor(t)
	d.role(t, "first", trustsBob, anyUserPolicy)
	d.role(t, "second", strings.Replace(trustsBob, "user/bob", "role/first", 1), everything)
	bob := d.config(t, "bob", anyUserPolicy)
	first := with(bob, d.assume(t, bob, "first").Credentials)
	second := with(bob, d.assume(t, first, "second").Credentials)
	if _, err := efs.NewFromConfig(second).DescribeFileSystems(t.Context(), nil); err != nil {
		t.Error(err)
	}
	status, code := d.call(t, first, nil, "AssumeRole", "RoleArn", "arn:aws:iam::000000000000:role/second", "RoleSessionName", "night", "DurationSeconds", "3601")
	if status != 400 || code != "ValidationError" {
		t.Errorf("over an hour: %d %s", status, code)
	}
	if err := d.backend.DeleteRole(t.Context(), "second"); err != nil {
		t.Fatal(err)
	}
	_, err := efs.NewFromConfig(second).DescribeFileSystems(t.Context(), nil)
	wantCode(t, err, "UnrecognizedClientException")
}

func TestUserSession(t *testing.T) {
	d := newDoor(t)
	bob := d.config(t, "bob", everything)
	var got userSession
	if status, code := d.call(t, bob, &got, "GetSessionToken"); status != 200 {
		t.Fatal(status, code)
	}
	session := with(bob, got.Credentials)
	var who callerIdentity
	if d.call(t, session, &who, "GetCallerIdentity"); who.ARN != "arn:aws:iam::000000000000:user/bob" {
		t.Errorf("it is %+v", who)
	}
	if _, err := efs.NewFromConfig(session).DescribeFileSystems(t.Context(), nil); err != nil {
		t.Error(err)
	}
	for _, test := range []struct {
		who    aws.Config
		more   []string
		status int
		code   string
	}{
		{session, nil, 403, "AccessDenied"},
		{bob, []string{"DurationSeconds", "899"}, 400, "ValidationError"},
		{bob, []string{"DurationSeconds", "129601"}, 400, "ValidationError"},
		{bob, []string{"DurationSeconds", "129600"}, 200, ""},
		{bob, []string{"TokenCode", "123456"}, 400, "ValidationError"},
	} {
		if status, code := d.call(t, test.who, &userSession{}, "GetSessionToken", test.more...); status != test.status || code != test.code {
			t.Errorf("%v: %d %s", test.more, status, code)
		}
	}
}

// Credentials that can't be put on record are not given.
func TestUnrecordedCredentials(t *testing.T) {
	d := newDoor(t)
	d.role(t, "r", trustsBob, everything)
	bob := d.config(t, "bob", anyUserPolicy)
	d.log.err = errors.New("the disk is full")
	status, code := d.call(t, bob, nil, "AssumeRole", "RoleArn", "arn:aws:iam::000000000000:role/r", "RoleSessionName", "night")
	if status != 500 || code != "InternalFailure" {
		t.Errorf("%d %s", status, code)
	}
}

// TestUserSessionChangesNoRights: at AWS credentials of GetSessionToken can't call IAM without MFA, whatever policies say; those of a
// role's session can.
func TestUserSessionChangesNoRights(t *testing.T) {
	d := newDoor(t)
	bob := d.config(t, "bob", everything)
	d.role(t, "bobs", trustsBob, everything)
	var got userSession
	if status, code := d.call(t, bob, &got, "GetSessionToken"); status != 200 {
		t.Fatal(status, code)
	}
	options := d.remoteOptions(t, "other", everything)
	as := func(config aws.Config) *Client {
		options.Credentials = config.Credentials
		client, err := NewRemoteClient(options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		return client
	}
	session, role := as(with(bob, got.Credentials)), as(with(bob, d.assume(t, bob, "bobs").Credentials))
	for name, call := range map[string]func(*Client) error{
		"ListUsers":  func(c *Client) error { _, err := c.Users(t.Context()); return err },
		"CreateUser": func(c *Client) error { return c.CreateUser(t.Context(), "mallory") },
		"ListRoles":  func(c *Client) error { _, err := c.Roles(t.Context()); return err },
	} {
		var refused *Error
		if err := call(session); !errors.As(err, &refused) || refused.Code != "AccessDeniedException" || refused.Status != 403 {
			t.Errorf("%s: %v", name, err)
		}
		if e := d.last(); e.Name != name || e.ErrorCode != "AccessDeniedException" {
			t.Errorf("the record of %s: %+v", name, e)
		}
	}
	if _, err := session.Status(t.Context()); err != nil {
		t.Errorf("what is not of IAM: %v", err)
	}
	if _, err := role.Users(t.Context()); err != nil {
		t.Errorf("a role's session: %v", err)
	}
	d.assume(t, with(bob, got.Credentials), "bobs") // STS lets them assume a role
}
