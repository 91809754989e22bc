package appliance

import (
	"errors"
	"testing"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// dialPoint opens a session through an access point.
func (r *running) dialPoint(t testing.TB, id, point string) (*nfsclient.Client, error) {
	t.Helper()
	conn := r.dialWith(t, id, clientCertificate(t, &certificateTemplate{fileSystem: id, accessPoint: point}))
	c, err := nfsclient.New(t.Context(), conn, nfsclient.Options{})
	if err == nil {
		t.Cleanup(c.Abandon)
	}
	return c, err
}

func (r *running) mountPoint(t testing.TB, id, point string) (*nfsclient.Client, nfsclient.Handle) {
	t.Helper()
	c, err := r.dialPoint(t, id, point)
	if err != nil {
		t.Fatal(err)
	}
	root, err := c.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c, root
}

func (r *running) newPoint(t testing.TB, p catalog.AccessPoint) string {
	t.Helper()
	p.Token = t.Name() + p.Root.Path
	made, err := r.CreateAccessPoint(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return made.ID
}

// TestAccessPoint follows an access point from its making through a restart to its end.
func TestAccessPoint(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id := r.create(t, "a")
	point := r.newPoint(t, catalog.AccessPoint{FileSystem: id, User: &catalog.PosixUser{UID: 1000, GID: 1001}, Root: catalog.RootDirectory{
		Path: "/home/bob", Creation: &catalog.CreationInfo{OwnerUID: 1000, OwnerGID: 1001, Permissions: 0o750},
	}})
	c, root := r.mountPoint(t, id, point)
	write(t, c, root, "file", "bob's")
	if _, err := c.LookupParent(t.Context(), root); !errors.Is(err, wire.NFS4ERR_NOENT) {
		t.Errorf("above the root: %v", err)
	}
	direct, top := r.mount(t, id)
	home, a, err := direct.LookupPath(t.Context(), "/home/bob")
	if err != nil {
		t.Fatal(err)
	}
	if a.Owner.ID != 1000 || a.OwnerGroup.ID != 1001 || a.Mode != 0o750 {
		t.Errorf("the root was made as %d:%d %o", a.Owner.ID, a.OwnerGroup.ID, a.Mode)
	}
	if _, a, err = direct.Lookup(t.Context(), home, "file"); err != nil || a.Owner.ID != 1000 {
		t.Errorf("a file of %d, %v", a.Owner.ID, err)
	}
	if string(c.Server().ServerMajor) == string(direct.Server().ServerMajor) || c.ClientID() == direct.ClientID() {
		t.Error("to its client an access point is the same server as the file system")
	}
	write(t, direct, top, "outside", "x")
	r.stop(t)

	r = start(t, testOptions(dir))
	c, root = r.mountPoint(t, id, point)
	if got, err := c.ReadFile(t.Context(), root, "file"); err != nil || string(got) != "bob's" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	if err := r.DeleteAccessPoint(t.Context(), point); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadFile(t.Context(), root, "file"); !errors.Is(err, wire.NFS4ERR_ACCESS) {
		t.Errorf("after its end: %v", err)
	}
	if _, err := r.dialPoint(t, id, point); !errors.Is(err, wire.NFS4ERR_ACCESS) {
		t.Errorf("mounted after its end: %v", err)
	}
}

// TestAccessPointRefused counts clients whose access point lets nobody in.
func TestAccessPointRefused(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id, other := r.create(t, "a"), r.create(t, "b")
	c, root := r.mount(t, id)
	write(t, c, root, "file", "x")
	missing := &catalog.CreationInfo{Permissions: 0o755}
	for name, p := range map[string]struct {
		point  catalog.AccessPoint
		reason string
	}{
		"another file system's": {catalog.AccessPoint{FileSystem: other, Root: catalog.RootDirectory{Path: "/"}}, "access_point"},
		"no root directory":     {catalog.AccessPoint{FileSystem: id, Root: catalog.RootDirectory{Path: "/nowhere"}}, "root_directory"},
		"a file for a root":     {catalog.AccessPoint{FileSystem: id, Root: catalog.RootDirectory{Path: "/file", Creation: missing}}, "root_directory"},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.table.refused()[p.reason]
			if _, err := r.dialPoint(t, id, r.newPoint(t, p.point)); !errors.Is(err, wire.NFS4ERR_ACCESS) {
				t.Errorf("mounted: %v", err)
			}
			if now := r.table.refused()[p.reason]; now != before+1 {
				t.Errorf("%s counted %d times", p.reason, now-before)
			}
		})
	}
}

// TestPolicyOfAccessPoints lets clients in through one access point only, and makes no directory for a
// client that may not mount.
func TestPolicyOfAccessPoints(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id := r.create(t, "a")
	make755 := &catalog.CreationInfo{Permissions: 0o777}
	first := r.newPoint(t, catalog.AccessPoint{FileSystem: id, Root: catalog.RootDirectory{Path: "/first", Creation: make755}})
	second := r.newPoint(t, catalog.AccessPoint{FileSystem: id, Root: catalog.RootDirectory{Path: "/second", Creation: make755}})
	policy := `{"Statement":{"Effect":"Allow","Principal":"*","Action":"elasticfilesystem:Client*",` +
		`"Condition":{"StringEquals":{"elasticfilesystem:AccessPointArn":"` + r.table.pointARN(first) + `"}}}}`
	if err := r.PutFileSystemPolicy(t.Context(), id, policy); err != nil {
		t.Fatal(err)
	}
	c, root := r.mountPoint(t, id, first)
	write(t, c, root, "file", "x")
	if _, err := r.dialPoint(t, id, second); !errors.Is(err, wire.NFS4ERR_ACCESS) {
		t.Errorf("through the other: %v", err)
	}
	if err := r.DeleteFileSystemPolicy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	direct, _ := r.mount(t, id)
	if _, _, err := direct.LookupPath(t.Context(), "/second"); !errors.Is(err, wire.NFS4ERR_NOENT) {
		t.Errorf("a directory was made for who may not mount: %v", err)
	}
}
