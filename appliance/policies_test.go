package appliance

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/policy"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// statements makes a policy of Allow statements for everybody, each "ACTIONS CONDITION".
func policyText(actions, condition string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"*"},`+
		`"Action":["elasticfilesystem:%s"],"Condition":{%s}}}`, strings.ReplaceAll(actions, " ", `","elasticfilesystem:`), condition)
}

// mayDo says what a living connection can do: see, change, act as root.
func mayDo(t testing.TB, c *nfsclient.Client, root nfsclient.Handle, n int) string {
	t.Helper()
	var can []string
	_, err := c.ReadFile(t.Context(), root, "file")
	switch {
	case err == nil:
		can = append(can, "read")
	case !errors.Is(err, wire.NFS4ERR_ACCESS):
		t.Errorf("read: %v", err)
	}
	err = c.WriteFile(t.Context(), root, fmt.Sprint("new", n), []byte("x"), 0o644)
	switch {
	case err == nil:
		can = append(can, "write")
	case !errors.Is(err, wire.NFS4ERR_ROFS) && !errors.Is(err, wire.NFS4ERR_ACCESS):
		t.Errorf("write: %v", err)
	}
	return strings.Join(can, " ")
}

// TestPolicyReachesLivingConnections changes the policy below one connection.
func TestPolicyReachesLivingConnections(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id := r.create(t, "a")
	other := r.create(t, "b")
	c, root := r.mount(t, id)
	write(t, c, root, "file", "content")
	for i, step := range []struct{ policy, want string }{
		{policyText("ClientMount ClientWrite ClientRootAccess", ""), "read write"},
		{policyText("ClientMount ClientRootAccess", ""), "read"},
		{policyText("ClientMount ClientWrite", ""), "read"}, // the root directory is root's
		{policyText("ClientWrite ClientRootAccess", ""), ""},
		{policyText("Client*", `"Bool":{"aws:SecureTransport":"true"}`), "read write"},
		{policyText("Client*", `"Bool":{"aws:SecureTransport":"false"}`), ""},
		{policyText("Client*", `"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}`), "read write"},
		{policyText("Client*", `"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}`), ""},
		{policyText("Client*", `"Bool":{"elasticfilesystem:AccessedViaMountTarget":"true"}`), "read write"},
		{"", "read write"},
		{policyText("ClientMount", ""), "read"},
	} {
		if err := putPolicy(t, r, id, step.policy); err != nil {
			t.Fatal(err)
		}
		if got := mayDo(t, c, root, i); got != step.want {
			t.Errorf("%q: may %q, want %q", step.policy, got, step.want)
		}
	}
	if err := r.PutFileSystemPolicy(t.Context(), id, "{}"); !errors.Is(err, policy.ErrMalformed) {
		t.Errorf("malformed: %v", err)
	}
	if got := mayDo(t, c, root, 99); got != "read" {
		t.Errorf("after a malformed one: may %q", got)
	}
	c2, root2 := r.mount(t, other)
	write(t, c2, root2, "file", "content")
	r.stop(t)

	r = start(t, testOptions(dir))
	c, root = r.mount(t, id)
	if got := mayDo(t, c, root, 100); got != "read" {
		t.Errorf("after a restart: may %q", got)
	}
	c2, root2 = r.mount(t, other)
	if got := mayDo(t, c2, root2, 0); got != "read write" {
		t.Errorf("the other file system: may %q", got)
	}
}

func putPolicy(t testing.TB, r *running, id, text string) error {
	t.Helper()
	if text == "" {
		return r.DeleteFileSystemPolicy(t.Context(), id)
	}
	return r.PutFileSystemPolicy(t.Context(), id, text)
}

// TestDamagedPolicyLetsNobodyIn starts with a policy that is not understood.
func TestDamagedPolicyLetsNobodyIn(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id := r.create(t, "a")
	r.stop(t)
	withCatalog(t, dir, func(c *catalog.Catalog) {
		if err := c.PutPolicy(t.Context(), id, "garbage"); err != nil {
			t.Fatal(err)
		}
	})
	r = start(t, testOptions(dir))
	if r.logs.FilterMessageSnippet("policy on record is not understood").Len() != 1 {
		t.Error("nothing was logged")
	}
	if _, err := nfsclient.New(t.Context(), r.dial(t, id), nfsclient.Options{}); !errors.Is(err, wire.NFS4ERR_ACCESS) {
		t.Errorf("mounted: %v", err)
	}
	if err := putPolicy(t, r, id, policyText("Client*", "")); err != nil {
		t.Fatal(err)
	}
	r.mount(t, id)
}

// TestSessionsAreForgotten checks that closed connections leave nothing behind.
func TestSessionsAreForgotten(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id := r.create(t, "a")
	c, _ := r.mount(t, id)
	c.Abandon()
	r.stop(t)
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	if n := len(r.table.sessions); n != 0 {
		t.Errorf("sessions of %d file systems are left", n)
	}
}
