package api

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/audit"
)

// remote is our own client of the door, for a new user with this policy.
func (d *door) remote(t *testing.T, user, document string) *Client {
	t.Helper()
	o := d.remoteOptions(t, user, document)
	c, err := NewRemoteClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (d *door) remoteOptions(t *testing.T, user, document string) Remote {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(d.Certificate())
	return Remote{Endpoint: d.URL, Region: "local-1", Roots: roots, Credentials: d.config(t, user, document).Credentials}
}

func (d *door) last() audit.Event { return d.log.events[len(d.log.events)-1] }

func TestFromAfar(t *testing.T) {
	d := newDoor(t)
	admin := d.remote(t, "admin", everything)
	for _, step := range []struct {
		event string // as source and name
		call  func() error
	}{
		{"nfseal DescribeStatus", func() error { _, err := admin.Status(t.Context()); return err }},
		{"nfseal DescribeNetwork", func() error { _, err := admin.Network(t.Context(), 0); return err }},
		{"nfseal DescribeCompliance", func() error { _, err := admin.Compliance(t.Context()); return err }},
		{"nfseal CreateSubnet", func() error {
			_, err := admin.CreateSubnet(t.Context(), Subnet{Interface: "eth1", Prefix: "10.0.0.0/24"})
			return err
		}},
		{"nfseal DescribeSubnets", func() error { _, err := admin.Subnets(t.Context()); return err }},
		{"iam CreateUser", func() error { return admin.CreateUser(t.Context(), "bob") }},
		{"iam ListUsers", func() error { _, err := admin.Users(t.Context()); return err }},
		{"elasticfilesystem CreateFileSystem", func() error {
			_, err := admin.CreateFileSystem(t.Context(), CreateFileSystemRequest{CreationToken: "one"})
			return err
		}},
		{"elasticfilesystem DescribeFileSystems", func() error { _, err := admin.FileSystems(t.Context()); return err }},
	} {
		if err := step.call(); err != nil {
			t.Errorf("%s: %v", step.event, err)
		}
		if e := d.last(); e.Source+" "+e.Name != step.event || e.Identity.Principal != "arn:aws:iam::000000000000:user/admin" || e.ErrorCode != "" {
			t.Errorf("the record of %s: %+v", step.event, e)
		}
	}
}

// Reading too needs a right, and a refusal is on record.
func TestNoRightFromAfar(t *testing.T) {
	d := newDoor(t)
	one := d.remote(t, "one", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["elasticfilesystem:*","nfseal:DescribeStatus"],"Resource":"*"}]}`)
	if _, err := one.Status(t.Context()); err != nil {
		t.Error(err)
	}
	for name, call := range map[string]func() error{
		"DescribeCompliance": func() error { _, err := one.Compliance(t.Context()); return err },
		"DescribeNetwork":    func() error { _, err := one.Network(t.Context(), 0); return err },
		"DescribeScrub":      func() error { _, err := one.ScrubOf(t.Context(), "fs-0123456789abcdef0"); return err },
		"CreateUser":         func() error { return one.CreateUser(t.Context(), "bob") },
		"ListUsers":          func() error { _, err := one.Users(t.Context()); return err },
		"CreateSecurityGroup": func() error {
			_, err := one.CreateSecurityGroup(t.Context(), SecurityGroup{Name: "all"})
			return err
		},
	} {
		if err := call(); !isCode(err, "AccessDeniedException") {
			t.Errorf("%s: %v", name, err)
		}
		if e := d.last(); e.Name != name || e.ErrorCode != "AccessDeniedException" {
			t.Errorf("the record of %s: %+v", name, e)
		}
	}
}

// What is on the socket and not of the API has no signature that opens it.
func TestOnlyOperationsFromAfar(t *testing.T) {
	d := newDoor(t)
	admin := d.remote(t, "admin", everything)
	for _, path := range []string{"/metrics", "/healthz", ownPath + "nothing"} {
		var answer struct{}
		if err := admin.do(t.Context(), http.MethodGet, path, nil, &answer); err == nil {
			t.Errorf("%s is answered", path)
		}
	}
}

func TestRemoteRefuses(t *testing.T) {
	d := newDoor(t)
	good := d.remoteOptions(t, "admin", everything)
	for name, change := range map[string]func(*Remote){
		"is not an endpoint":   func(o *Remote) { o.Endpoint = strings.Replace(o.Endpoint, "https", "http", 1) },
		"\"nfs\" is not":       func(o *Remote) { o.Endpoint = "nfs" },
		"/path\" is not":       func(o *Remote) { o.Endpoint += "/path" },
		"no region given":      func(o *Remote) { o.Region = "" },
		"no credentials given": func(o *Remote) { o.Credentials = nil },
	} {
		o := good
		change(&o)
		if _, err := NewRemoteClient(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good.Region = "eu-west-1"
	c, err := NewRemoteClient(good)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Status(t.Context()); !isCode(err, "InvalidSignatureException") {
		t.Errorf("another region: %v", err)
	}
	good.Roots, good.Region = x509.NewCertPool(), "local-1"
	if c, err = NewRemoteClient(good); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var unknown x509.UnknownAuthorityError
	if _, err := c.Status(t.Context()); !errors.As(err, &unknown) {
		t.Errorf("another CA: %v", err)
	}
}

// A signed request does not go where the answer sends it.
func TestRemoteStays(t *testing.T) {
	d := newDoor(t)
	o := d.remoteOptions(t, "admin", everything)
	away := httptest.NewTLSServer(http.RedirectHandler(d.URL, http.StatusTemporaryRedirect))
	defer away.Close()
	o.Endpoint = away.URL
	c, err := NewRemoteClient(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Status(t.Context()); err == nil || len(d.log.events) != 0 {
		t.Errorf("%v, and %d calls arrived", err, len(d.log.events))
	}
}
