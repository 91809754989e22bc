package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/efs"
	"github.com/aws/aws-sdk-go-v2/service/efs/types"
	"github.com/aws/smithy-go"

	"github.com/nfseal/nfseal/appliance/api/apitest"
	"github.com/nfseal/nfseal/appliance/kms"
)

const everything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

// door is a front door, and what is behind it.
type door struct {
	*httptest.Server
	backend *memoryBackend
	log     *memoryLog
	keys    *kms.Keys // nil without a KMS
}

// newDoor opens a front door whose clock is the real one, as the SDK's is.
func newDoor(t *testing.T) *door { return newDoorWith(t, Options{}) }

// newDoorWith opens one with other options.
func newDoorWith(t *testing.T, o Options) *door {
	t.Helper()
	backend, log := &memoryBackend{Directory: apitest.NewDirectory(t), records: newRecords(t)}, &memoryLog{}
	o.Backend, o.Audit, o.Region = backend, log, "local-1"
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{httptest.NewTLSServer(s.FrontDoor()), backend, log, nil}
	t.Cleanup(d.Close)
	return d
}

// config is the SDK's, for a new user with this policy.
func (d *door) config(t *testing.T, user, document string) aws.Config {
	t.Helper()
	id, secret := d.backend.Signer(t, user, document)
	return aws.Config{
		Region: "local-1", BaseEndpoint: aws.String(d.URL), HTTPClient: d.Client(), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret.Reveal()}, nil
		}),
	}
}

// wantCode fails unless err is the API's error of that name.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var known smithy.APIError
	if !errors.As(err, &known) || known.ErrorCode() != code {
		t.Errorf("%v, want %s", err, code)
	}
}

func TestSDKOnEFS(t *testing.T) {
	d := newDoor(t)
	client := efs.NewFromConfig(d.config(t, "admin", everything))
	made, err := client.CreateFileSystem(t.Context(), &efs.CreateFileSystemInput{CreationToken: aws.String("one"), Encrypted: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	var exists *types.FileSystemAlreadyExists
	if _, err := client.CreateFileSystem(t.Context(), &efs.CreateFileSystemInput{CreationToken: aws.String("one")}); !errors.As(err, &exists) ||
		*exists.FileSystemId != *made.FileSystemId {
		t.Errorf("the token again: %v", err)
	}
	pages, n := efs.NewDescribeFileSystemsPaginator(client, &efs.DescribeFileSystemsInput{MaxItems: aws.Int32(1)}), 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n += len(page.FileSystems)
	}
	if n != 1 {
		t.Errorf("%d file systems, want 1", n)
	}
	_, err = client.DescribeFileSystems(t.Context(), &efs.DescribeFileSystemsInput{FileSystemId: aws.String("fs-0123456789abcdef0")})
	wantCode(t, err, "FileSystemNotFound")
	if _, err := client.DeleteFileSystem(t.Context(), &efs.DeleteFileSystemInput{FileSystemId: made.FileSystemId}); err != nil {
		t.Error(err)
	}
	e := d.log.events[0]
	if e.Name != "CreateFileSystem" || e.Identity.Type != "IAMUser" || e.Identity.Principal != "arn:aws:iam::000000000000:user/admin" ||
		e.Address != "127.0.0.1" || e.RequestID == "" {
		t.Errorf("the record: %+v", e)
	}
}

func TestIdentityPolicies(t *testing.T) {
	d := newDoor(t)
	admin := efs.NewFromConfig(d.config(t, "admin", everything))
	made, err := admin.CreateFileSystem(t.Context(), &efs.CreateFileSystemInput{CreationToken: aws.String("one")})
	if err != nil {
		t.Fatal(err)
	}
	nobody := efs.NewFromConfig(d.config(t, "nobody", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}`))
	_, err = nobody.DescribeFileSystems(t.Context(), &efs.DescribeFileSystemsInput{})
	wantCode(t, err, "AccessDeniedException")
	if e := d.log.events[len(d.log.events)-1]; e.ErrorCode != "AccessDeniedException" || e.Identity.Principal != "arn:aws:iam::000000000000:user/nobody" {
		t.Errorf("the record: %+v", e)
	}
	one := efs.NewFromConfig(d.config(t, "one", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
		"Action":"elasticfilesystem:DescribeFileSystems","Resource":"`+*made.FileSystemArn+`"}]}`))
	if _, err := one.DescribeFileSystems(t.Context(), &efs.DescribeFileSystemsInput{FileSystemId: made.FileSystemId}); err != nil {
		t.Errorf("its own file system: %v", err)
	}
	_, err = one.DescribeFileSystems(t.Context(), &efs.DescribeFileSystemsInput{})
	wantCode(t, err, "AccessDeniedException")
	_, err = one.DeleteFileSystem(t.Context(), &efs.DeleteFileSystemInput{FileSystemId: made.FileSystemId})
	wantCode(t, err, "AccessDeniedException")
	encrypted := efs.NewFromConfig(d.config(t, "encrypted", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
		"Action":"elasticfilesystem:CreateFileSystem","Resource":"*","Condition":{"Bool":{"elasticfilesystem:Encrypted":"true"}}}]}`))
	if _, err := encrypted.CreateFileSystem(t.Context(), &efs.CreateFileSystemInput{CreationToken: aws.String("two")}); err != nil {
		t.Errorf("encrypted: %v", err)
	}
}

// A file system's own policy is asked too: who is denied there is denied.
func TestResourcePolicyAtTheDoor(t *testing.T) {
	d := newDoor(t)
	admin := efs.NewFromConfig(d.config(t, "admin", everything))
	made, err := admin.CreateFileSystem(t.Context(), &efs.CreateFileSystemInput{CreationToken: aws.String("one")})
	if err != nil {
		t.Fatal(err)
	}
	deny := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"elasticfilesystem:DeleteFileSystem","Resource":"*"}]}`
	if _, err := admin.PutFileSystemPolicy(t.Context(), &efs.PutFileSystemPolicyInput{FileSystemId: made.FileSystemId, Policy: &deny}); err != nil {
		t.Fatal(err)
	}
	_, err = admin.DeleteFileSystem(t.Context(), &efs.DeleteFileSystemInput{FileSystemId: made.FileSystemId})
	wantCode(t, err, "AccessDeniedException")
}

func TestRefusedAtTheDoor(t *testing.T) {
	d := newDoor(t)
	good := d.config(t, "admin", everything)
	with := func(change func(*aws.Config)) *efs.Client {
		c := good.Copy()
		change(&c)
		return efs.NewFromConfig(c)
	}
	credentials := func(c aws.Credentials) func(*aws.Config) {
		return func(config *aws.Config) {
			config.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil })
		}
	}
	real, err := good.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for code, client := range map[string]*efs.Client{
		"UnrecognizedClientException": with(credentials(aws.Credentials{AccessKeyID: "AKIAAAAAAAAAAAAAAAAA", SecretAccessKey: "x"})),
		"InvalidSignatureException":   with(credentials(aws.Credentials{AccessKeyID: real.AccessKeyID, SecretAccessKey: "x"})),
	} {
		_, err := client.DescribeFileSystems(t.Context(), &efs.DescribeFileSystemsInput{})
		wantCode(t, err, code)
	}
	_, err = with(credentials(aws.Credentials{AccessKeyID: real.AccessKeyID, SecretAccessKey: real.SecretAccessKey, SessionToken: "t"})).
		DescribeFileSystems(t.Context(), &efs.DescribeFileSystemsInput{})
	wantCode(t, err, "UnrecognizedClientException")
	_, err = with(func(c *aws.Config) { c.Region = "elsewhere-1" }).DescribeFileSystems(t.Context(), &efs.DescribeFileSystemsInput{})
	wantCode(t, err, "InvalidSignatureException")
	response, err := d.Client().Get(d.URL + "/2015-02-01/file-systems")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusForbidden || response.Header.Get("X-Amzn-Errortype") != "MissingAuthenticationTokenException" ||
		response.Header.Get("X-Amzn-Requestid") == "" {
		t.Errorf("unsigned: %d %v %s", response.StatusCode, response.Header, body)
	}
	if len(d.log.events) != 0 || strings.Contains(string(body), real.SecretAccessKey) {
		t.Errorf("%d records of calls by nobody; the answer %s", len(d.log.events), body)
	}
	_, err = efs.NewFromConfig(good).CreateFileSystem(t.Context(), &efs.CreateFileSystemInput{
		CreationToken: aws.String(strings.Repeat("x", maxBodyBytes+1)),
	})
	wantCode(t, err, "BadRequest")
}

func TestUnrecordedAtTheDoor(t *testing.T) {
	d := newDoor(t)
	d.log.err = errors.New("the disk is full")
	_, err := efs.NewFromConfig(d.config(t, "admin", everything)).CreateFileSystem(t.Context(), &efs.CreateFileSystemInput{CreationToken: aws.String("one")})
	wantCode(t, err, "InternalServerError")
	if len(d.backend.list) != 0 {
		t.Error("the call was carried out")
	}
}

func TestThrottle(t *testing.T) {
	th, now := newThrottle(callsASecond, callBurst), time.Unix(1700000000, 0)
	for i := range callBurst {
		if !th.admit("one", now) {
			t.Fatalf("call %d is refused", i)
		}
	}
	if th.admit("one", now) {
		t.Error("one call too many is admitted")
	}
	if !th.admit("two", now) {
		t.Error("another principal pays for the first")
	}
	if now = now.Add(time.Second); !th.admit("one", now) {
		t.Error("nothing is admitted a second later")
	}
	admitted := 1
	for th.admit("one", now) {
		admitted++
	}
	if admitted != callsASecond {
		t.Errorf("%d calls a second are admitted, want %d", admitted, callsASecond)
	}
	for range callBurst {
		th.admit("two", now)
	}
	if th.admit("two", now.Add(-time.Hour)) {
		t.Error("a clock that goes back gives tokens")
	}
}

// TestThrottleOfMany: callers beyond those that are told apart share what one has, until others have been quiet.
func TestThrottleOfMany(t *testing.T) {
	th, now := newThrottle(unsignedASecond, unsignedBurst), time.Unix(1700000000, 0)
	for i := range maxBuckets {
		th.admit(strconv.Itoa(i), now)
	}
	admitted := 0
	for i := range 2 * unsignedBurst {
		if th.admit("new "+strconv.Itoa(i), now) {
			admitted++
		}
	}
	if admitted != unsignedBurst || len(th.buckets) != maxBuckets+1 {
		t.Errorf("%d of the others were admitted, %d buckets", admitted, len(th.buckets))
	}
	if now = now.Add(time.Second); !th.admit("new", now) || len(th.buckets) != 2 {
		t.Errorf("%d buckets after a second", len(th.buckets))
	}
}
