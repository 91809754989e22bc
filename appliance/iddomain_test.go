package appliance

import (
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// TestIDDomain: a daemon with a domain takes owners as numbers in it, and tells them as numbers; one without takes none.
func TestIDDomain(t *testing.T) {
	for domain, want := range map[string]wire.Status{"example.org": wire.NFS4_OK, "": wire.NFS4ERR_BADOWNER} {
		t.Run(domain, func(t *testing.T) {
			o := testOptions(t.TempDir())
			o.IDDomain = domain
			r := start(t, o)
			c, root := r.mount(t, r.create(t, "a"))
			write(t, c, root, "file", "x")
			file, _, err := c.Lookup(t.Context(), root, "file")
			if err != nil {
				t.Fatal(err)
			}
			give := func(name string) error {
				return c.SetAttr(t.Context(), file, wire.Stateid{}, &wire.Attrs{
					Mask: wire.BitmapOf(wire.FATTR4_OWNER), Owner: wire.Principal{Name: []byte(name)},
				})
			}
			if err := give("1001@Example.ORG"); want == wire.NFS4_OK && err != nil || want != wire.NFS4_OK && !isStatus(err, want) {
				t.Errorf("an owner in the domain: %v", err)
			}
			if err := give("1002@example.net"); !isStatus(err, wire.NFS4ERR_BADOWNER) {
				t.Errorf("an owner in another domain: %v", err)
			}
			var a wire.Attrs
			if err := c.GetAttr(t.Context(), file, nfsclient.BasicAttrs, &a); err != nil {
				t.Fatal(err)
			}
			if owner := a.Owner.ID; (owner == 1001) != (want == wire.NFS4_OK) || a.Owner.Name != nil {
				t.Errorf("the owner is %d, %q", owner, a.Owner.Name)
			}
		})
	}
}
