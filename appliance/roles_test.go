package appliance

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/transport"
)

const (
	trustsAccount = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"000000000000"},"Action":"sts:AssumeRole"}}`
	mayMount      = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["elasticfilesystem:ClientMount","elasticfilesystem:ClientRootAccess"],"Resource":"*"}}`
)

func (r *running) newRole(t *testing.T, name, document string) catalog.Role {
	t.Helper()
	role, err := r.CreateRole(t.Context(), catalog.Role{Name: name, Trust: trustsAccount, MaxSessionSeconds: 3600})
	check(t, err)
	check(t, r.ChangeRole(t.Context(), name, func(role *catalog.Role) error { return role.PutPolicy("own", document) }))
	return role
}

// assume begins a session of a role, as STS does.
func (r *running) assume(t *testing.T, role catalog.Role, limit string) (s *iam.Session, token string) {
	t.Helper()
	now := r.o.Clock().UTC().Truncate(time.Second)
	s = &iam.Session{
		Role: role.Name, Name: "night", HolderID: iam.RoleID(role.Name, role.Created), Issued: now, Expires: now.Add(time.Hour), Policy: limit,
	}
	s.NewKey()
	token, err := r.Issue(s)
	check(t, err)
	return s, token
}

// dialInSession connects with the certificate of somebody who has the session.
func (r *running) dialInSession(t *testing.T, fileSystem string, s *iam.Session, token string) (*nfsclient.Client, error) {
	t.Helper()
	certificate := clientCertificate(t, &certificateTemplate{
		fileSystem: fileSystem, secret: s.Secret, sign: r.signer(fileSystem, s.KeyID, func(c *transport.Connect) { c.SessionToken = token }),
	})
	c, err := nfsclient.New(t.Context(), r.dialWith(t, fileSystem, certificate), nfsclient.Options{})
	if err == nil {
		t.Cleanup(c.Abandon)
	}
	return c, err
}

// TestMountInSession mounts with the credentials of a role's session, and follows what the role may.
func TestMountInSession(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id := r.create(t, "a")
	nobody, root := r.mount(t, id)
	write(t, nobody, root, "file", "content")
	nobodyElse := `{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/none"},"Action":"elasticfilesystem:ClientMount"}}`
	check(t, r.PutFileSystemPolicy(t.Context(), id, nobodyElse))
	role := r.newRole(t, "reader", mayMount)
	s, token := r.assume(t, role, "")
	mount := func(s *iam.Session, token string) (*nfsclient.Client, nfsclient.Handle) {
		t.Helper()
		c, err := r.dialInSession(t, id, s, token)
		check(t, err)
		root, err := c.Root(t.Context())
		check(t, err)
		return c, root
	}
	c, root := mount(s, token)
	forRole := `{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:role/reader"},"Action":"elasticfilesystem:Client*"}}`
	byName := `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"elasticfilesystem:Client*"},` +
		`{"Effect":"Deny","Principal":"*","Action":"*","Condition":{"StringNotLike":{"aws:userid":"AROA*:night"}}}]}`
	for i, step := range []struct {
		what string
		do   func() error
		want string
	}{
		{"the role's own policy", func() error { return nil }, "read"},
		{"a policy for the role", func() error { return r.PutFileSystemPolicy(t.Context(), id, forRole) }, "read write"},
		{"by the session's name", func() error { return r.PutFileSystemPolicy(t.Context(), id, byName) }, "read write"},
		{"nobody's policy", func() error { return r.PutFileSystemPolicy(t.Context(), id, nobodyElse) }, "read"},
		{"no policy of the role", func() error {
			return r.ChangeRole(t.Context(), "reader", func(role *catalog.Role) error { return role.DeletePolicy("own") })
		}, ""},
		{"a policy of the role", func() error {
			return r.ChangeRole(t.Context(), "reader", func(role *catalog.Role) error { return role.PutPolicy("own", mayMount) })
		}, "read"},
	} {
		check(t, step.do())
		if got := mayDo(t, c, root, i); got != step.want {
			t.Errorf("%s: it may %q, want %q", step.what, got, step.want)
		}
	}
	all := r.lookup(t, "NewClientConnection")
	if e := all[len(all)-1]; e.Identity.Type != "AssumedRole" || !strings.HasSuffix(e.Identity.Principal, ":assumed-role/reader/night") {
		t.Errorf("on record: %+v", e.Identity)
	}
	r.stop(t)

	r = start(t, testOptions(dir)) // the token outlives the daemon
	c, root = mount(s, token)
	if got := mayDo(t, c, root, 100); got != "read" {
		t.Errorf("after a restart it may %q", got)
	}
	limited, limitedToken := r.assume(t, role, `{"Statement":{"Effect":"Allow","Action":"elasticfilesystem:ClientWrite","Resource":"*"}}`)
	if _, err := r.dialInSession(t, id, limited, limitedToken); !errors.Is(err, wire.NFS4ERR_ACCESS) {
		t.Errorf("a session that may not mount: %v", err)
	}
	check(t, r.DeleteRole(t.Context(), "reader"))
	if got := mayDo(t, c, root, 101); got != "" {
		t.Errorf("after the end of the role it may %q", got)
	}
	r.newRole(t, "reader", mayMount)
	if _, err := r.dialInSession(t, id, s, token); !errors.Is(err, wire.NFS4ERR_ACCESS) {
		t.Errorf("in a session of another role of the name: %v", err)
	}
}

// TestExpiredSession has a session end under a connection: the connection ends, and does not come back without new
// credentials.
func TestExpiredSession(t *testing.T) {
	var ahead atomic.Int64
	o := testOptions(t.TempDir())
	o.KeyCheckSeconds = 1
	o.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	r := start(t, o)
	id := r.create(t, "a")
	s, token := r.assume(t, r.newRole(t, "reader", mayMount), "")
	certificate := clientCertificate(t, &certificateTemplate{
		fileSystem: id, secret: s.Secret, notAfter: time.Now().Add(10 * time.Hour),
		sign: r.signer(id, s.KeyID, func(c *transport.Connect) { c.SessionToken = token }),
	})
	c, err := nfsclient.New(t.Context(), r.dialWith(t, id, certificate), nfsclient.Options{})
	check(t, err)
	t.Cleanup(c.Abandon)
	ahead.Store(int64(time.Hour))
	within, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if _, err = c.Root(within); err != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if within.Err() != nil {
		t.Fatal("the connection lives on")
	}
	before := r.table.refused()["session_expired"]
	if _, err := nfsclient.New(t.Context(), r.dialWith(t, id, certificate), nfsclient.Options{}); !errors.Is(err, wire.NFS4ERR_ACCESS) {
		t.Errorf("with the old certificate: %v", err)
	}
	if n := r.table.refused()["session_expired"]; n != before+1 {
		t.Errorf("counted %d, then %d", before, n)
	}
	s, token = r.assume(t, catalog.Role{Name: "reader", Created: r.role(t, "reader").Created}, "")
	if _, err := r.dialInSession(t, id, s, token); err != nil {
		t.Errorf("with new credentials: %v", err)
	}
}

func (r *running) role(t *testing.T, name string) catalog.Role {
	t.Helper()
	role, err := r.Role(t.Context(), name)
	check(t, err)
	return role
}

// TestUserSessionEndsWithItsKey: what a user's key has begun ends with it.
func TestUserSessionEndsWithItsKey(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	keyID, _ := r.newUser(t, "bob")
	bob, err := r.Caller(t.Context(), keyID, "")
	check(t, err)
	now := time.Now().UTC().Truncate(time.Second)
	s := &iam.Session{User: "bob", Source: keyID, HolderID: bob.ID, Issued: now, Expires: now.Add(time.Hour)}
	s.NewKey()
	token, err := r.Issue(s)
	check(t, err)
	if c, err := r.Caller(t.Context(), s.KeyID, token); err != nil || c.Principal.ARN != iam.UserARN("bob") || c.User != "bob" {
		t.Errorf("%+v, %v", c, err)
	}
	for name, token := range map[string]string{"altered": token[:len(token)-2] + "AA", "cut": token[:20], "none": "!"} {
		if _, err := r.Caller(t.Context(), s.KeyID, token); !errors.Is(err, iam.ErrUnknownKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	check(t, r.DeleteAccessKey(t.Context(), "bob", keyID))
	if _, err := r.Caller(t.Context(), s.KeyID, token); !errors.Is(err, iam.ErrUnknownKey) {
		t.Errorf("after the end of the key: %v", err)
	}
}

// TestAWSCLIWithRoles has the CLI assume a role, by a command and by a profile.
func TestAWSCLIWithRoles(t *testing.T) {
	a := start(t, testOptions(t.TempDir()))
	aws := newAWS(t, a, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"arn:aws:iam::000000000000:role/maker"}]}`)
	a.newRole(t, "maker", mayEverything)
	a.newRole(t, "other", mayEverything)
	aws.refused(t, "AccessDeniedException", "efs", "describe-file-systems")
	aws.refused(t, "AccessDenied", "sts", "assume-role", "--role-arn", iam.RoleARN("other"), "--role-session-name", "night")
	var got struct {
		Credentials     struct{ AccessKeyId, SecretAccessKey, SessionToken, Expiration string }
		AssumedRoleUser struct{ AssumedRoleId, Arn string }
	}
	aws.do(t, &got, "sts", "assume-role", "--role-arn", iam.RoleARN("maker"), "--role-session-name", "night", "--duration-seconds", "900")
	inSession := aws.with("AWS_ACCESS_KEY_ID="+got.Credentials.AccessKeyId, "AWS_SECRET_ACCESS_KEY="+got.Credentials.SecretAccessKey,
		"AWS_SESSION_TOKEN="+got.Credentials.SessionToken)
	inSession.do(t, nil, "kms", "create-key")
	var who struct{ Arn, UserId string }
	inSession.do(t, &who, "sts", "get-caller-identity")
	if who.Arn != got.AssumedRoleUser.Arn || who.UserId != got.AssumedRoleUser.AssumedRoleId {
		t.Errorf("it is %+v, not %+v", who, got.AssumedRoleUser)
	}
	inSession.refused(t, "AccessDenied", "sts", "get-session-token")
	aws.do(t, &got, "sts", "get-session-token")

	config := filepath.Join(t.TempDir(), "config")
	check(t, os.WriteFile(config, []byte("[profile maker]\nrole_arn = "+iam.RoleARN("maker")+"\ncredential_source = Environment\nendpoint_url = "+
		a.frontURL()+"\nca_bundle = "+a.dir.caFile()+"\nregion = "+a.o.Region+"\n"), 0o600))
	byProfile := aws.with("AWS_CONFIG_FILE="+config, "AWS_CA_BUNDLE="+a.dir.caFile())
	byProfile.do(t, &who, "--profile", "maker", "sts", "get-caller-identity")
	if !strings.Contains(who.Arn, ":assumed-role/maker/botocore-session-") {
		t.Errorf("by a profile it is %+v", who)
	}
	byProfile.do(t, nil, "--profile", "maker", "efs", "create-file-system", "--creation-token", "x")
}
