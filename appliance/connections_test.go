package appliance

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// lookup returns what the log has of an event, the oldest first.
func (r *running) lookup(t testing.TB, event string) []audit.Record {
	t.Helper()
	found, err := audit.Lookup(filepath.Join(r.o.DataDir, "audit"), audit.Filter{Event: event, Max: 100})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(found)
	return found
}

// TestConnectionsAreOnRecord follows what the log says of clients as a policy changes under them.
func TestConnectionsAreOnRecord(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id := r.create(t, "a")
	point := r.newPoint(t, catalog.AccessPoint{FileSystem: id, Root: catalog.RootDirectory{Path: "/"}})
	keyID, secret := r.newUser(t, "bob")
	r.mountPoint(t, id, point)
	certificate := clientCertificate(t, &certificateTemplate{fileSystem: id, sign: r.signer(id, keyID, nil), secret: secret})
	bob, err := nfsclient.New(t.Context(), r.dialWith(t, id, certificate), nfsclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bob.Abandon)
	if _, err := r.dialPoint(t, id, "fsap-00000000000000000"); err == nil {
		t.Fatal("mounted through nothing")
	}
	all := audit.Permissions{RootAccess: true, Mount: true, Write: true}
	got := r.lookup(t, "NewClientConnection")
	if len(got) != 3 {
		t.Fatalf("%d connections on record", len(got))
	}
	for i, want := range []struct {
		identity audit.Identity
		may      audit.Permissions
		code     string
		about    int
	}{
		{audit.Identity{Type: "Anonymous"}, all, "", 2},
		{audit.Identity{Type: "IAMUser", Principal: "arn:aws:iam::000000000000:user/bob", AccessKeyID: keyID}, all, "", 1},
		{audit.Identity{Type: "Anonymous"}, audit.Permissions{}, "AccessDenied", 1},
	} {
		e := got[i].Event
		if e.Identity != want.identity || e.Connection.Permissions != want.may || e.ErrorCode != want.code || len(e.Resources) != want.about ||
			e.Connection.Address != "127.0.0.1" || e.Type != audit.ServiceEvent {
			t.Errorf("connection %d: %+v %+v", i, e, e.Connection)
		}
	}
	if err := r.PutFileSystemPolicy(t.Context(), id, policyText("ClientMount", "")); err != nil {
		t.Fatal(err)
	}
	changed := r.lookup(t, "UpdateClientConnection")
	if len(changed) != 2 || changed[0].Connection.Permissions != (audit.Permissions{Mount: true}) {
		t.Errorf("%d changes, %+v", len(changed), changed)
	}
	if err := r.PutUserPolicy(t.Context(), "bob", "none", `{"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}}`); err != nil {
		t.Fatal(err)
	}
	if again := r.lookup(t, "UpdateClientConnection"); len(again) != 2 {
		t.Errorf("%d changes after one that changed nothing", len(again))
	}
}

// TestUnrecordedConnection lets nobody in whose connection can't be recorded.
func TestUnrecordedConnection(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id := r.create(t, "a")
	r.table.record = func(audit.Event) error { return errors.New("the disk is full") }
	if _, err := nfsclient.New(t.Context(), r.dial(t, id), nfsclient.Options{}); !errors.Is(err, wire.NFS4ERR_ACCESS) {
		t.Errorf("mounted: %v", err)
	}
	if n := r.table.refused()["audit"]; n != 1 {
		t.Errorf("counted %d", n)
	}
}
