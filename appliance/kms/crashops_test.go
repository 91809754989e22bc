package kms

import (
	"context"
	cryptorand "crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/xtsengine/keyring"
)

var bg = context.Background()

// crashOps are the operations of a crashRun. Each does one, and says in the model what it does; false if there
// is nothing that it could be done with.
var crashOps = []struct {
	name string
	do   func(c *crashRun) bool
}{
	{"create file system", (*crashRun).createFS},
	{"create file system", (*crashRun).createFS},
	{"make it available", (*crashRun).makeAvailable},
	{"make it available", (*crashRun).makeAvailable},
	{"tag file system", (*crashRun).tagFS},
	{"put file system policy", (*crashRun).putFSPolicy},
	{"delete file system policy", (*crashRun).deleteFSPolicy},
	{"begin deletion", (*crashRun).beginDeletion},
	{"remove file system", (*crashRun).removeFS},
	{"create access point", (*crashRun).createPoint},
	{"create access point", (*crashRun).createPoint},
	{"tag access point", (*crashRun).tagPoint},
	{"delete access point", (*crashRun).deletePoint},
	{"create mount target", (*crashRun).createTarget},
	{"delete mount target", (*crashRun).deleteTarget},
	{"create key", (*crashRun).createKey},
	{"create key", (*crashRun).createKey},
	{"managed key", (*crashRun).managedKey},
	{"rotate key", (*crashRun).rotateKey},
	{"enable rotation", (*crashRun).enableRotation},
	{"change key", (*crashRun).changeKey},
	{"disable or enable key", (*crashRun).toggleKey},
	{"schedule deletion", (*crashRun).scheduleDeletion},
	{"cancel deletion", (*crashRun).cancelDeletion},
	{"sweep", (*crashRun).sweep},
	{"create grant", (*crashRun).createGrant},
	{"revoke grant", (*crashRun).revokeGrant},
	{"create or move alias", (*crashRun).setAlias},
	{"delete alias", (*crashRun).deleteAlias},
	{"import material", (*crashRun).importMaterial},
	{"delete material", (*crashRun).deleteMaterial},
	{"data key", (*crashRun).dataKey},
	{"data key", (*crashRun).dataKey},
	{"data key", (*crashRun).dataKey},
}

func (c *crashRun) name(kind string) string {
	c.count++
	return fmt.Sprintf("%s-%d", kind, c.count)
}

// text is a long text now and then, so that the store's tables and logs fill.
func (c *crashRun) text() string {
	return c.name("text") + strings.Repeat(" x", c.rng.IntN([]int{10, 10, 7000}[c.rng.IntN(3)]))
}

// pick returns one of the keys of m that fit.
func pick[V any](c *crashRun, m map[string]V, fits func(id string, v V) bool) (string, bool) {
	var all []string
	for _, id := range slices.Sorted(maps.Keys(m)) {
		if fits(id, m[id]) {
			all = append(all, id)
		}
	}
	if len(all) == 0 {
		return "", false
	}
	return all[c.rng.IntN(len(all))], true
}

func (c *crashRun) pickFS(state catalog.State) (string, bool) {
	return pick(c, c.m.FileSystems, func(_ string, f crashFS) bool { return f.State == string(state) })
}

// pickKey returns a customer's key in a state.
func (c *crashRun) pickKey(states ...State) (string, bool) {
	managed := c.m.Aliases[ManagedAlias("elasticfilesystem")]
	return pick(c, c.m.Keys, func(id string, k crashKey) bool { return id != managed && slices.Contains(states, State(k.State)) })
}

// setFS and setKey change a record of the model.
func (c *crashRun) setFS(id string, change func(*crashFS)) {
	f := c.m.FileSystems[id]
	change(&f)
	c.m.FileSystems[id] = f
}

func (c *crashRun) setKey(id string, change func(*crashKey)) {
	k := c.m.Keys[id]
	change(&k)
	c.m.Keys[id] = k
}

func (c *crashRun) createFS() bool {
	f := catalog.FileSystem{CreationToken: c.name("token"), Created: c.now, Unit: "u", Tags: []catalog.Tag{{Key: "Name", Value: c.name("fs")}}}
	f.Key, _ = c.pickKey(Enabled)
	made, err := c.open.fs.Create(bg, f)
	c.must(err)
	c.m.FileSystems[made.ID] = crashFS{State: "creating", Token: f.CreationToken, Key: f.Key, Tags: tagsOf(f.Tags)}
	return true
}

func (c *crashRun) makeAvailable() bool {
	id, ok := c.pickFS(catalog.Creating)
	if !ok {
		return false
	}
	_, err := c.open.fs.SetState(bg, id, catalog.Available, catalog.Creating)
	c.must(err)
	c.setFS(id, func(f *crashFS) { f.State = "available" })
	return true
}

func (c *crashRun) tagFS() bool {
	id, ok := c.pickFS(catalog.Available)
	if !ok {
		return false
	}
	tag := catalog.Tag{Key: c.name("key"), Value: c.name("value")}
	_, err := c.open.fs.ChangeFileSystem(bg, id, func(f *catalog.FileSystem) (err error) {
		f.BackupPolicy = "DISABLED"
		f.Tags, err = catalog.WithTags(f.Tags, []catalog.Tag{tag})
		return err
	})
	c.must(err)
	c.setFS(id, func(f *crashFS) {
		f.Backup = "DISABLED"
		f.Tags[tag.Key] = tag.Value
	})
	return true
}

func (c *crashRun) putFSPolicy() bool {
	id, ok := c.pickFS(catalog.Available)
	if !ok {
		return false
	}
	text := c.text()
	c.must(c.open.fs.PutPolicy(bg, id, text))
	c.setFS(id, func(f *crashFS) { f.Policy = text })
	return true
}

func (c *crashRun) deleteFSPolicy() bool {
	id, ok := c.pickFS(catalog.Available)
	if !ok {
		return false
	}
	c.must(c.open.fs.DeletePolicy(bg, id))
	c.setFS(id, func(f *crashFS) { f.Policy = "" })
	return true
}

func (c *crashRun) beginDeletion() bool {
	id, ok := pick(c, c.m.FileSystems, func(_ string, f crashFS) bool { return f.State == "available" && len(f.Targets) == 0 })
	if !ok {
		return false
	}
	_, err := c.open.fs.SetState(bg, id, catalog.Deleting, catalog.Available)
	c.must(err)
	c.setFS(id, func(f *crashFS) { f.State = "deleting" })
	return true
}

// removeFS takes the access points away one by one, before all the rest at once.
func (c *crashRun) removeFS() bool {
	id, ok := c.pickFS(catalog.Deleting)
	if !ok {
		return false
	}
	for _, point := range slices.Sorted(maps.Keys(c.m.FileSystems[id].Points)) {
		delete(c.m.FileSystems[id].Points, point)
		c.between = append(c.between, c.m.clone())
	}
	c.must(c.open.fs.Remove(bg, id))
	delete(c.m.FileSystems, id)
	return true
}

func (c *crashRun) createPoint() bool {
	id, ok := c.pickFS(catalog.Available)
	if !ok {
		return false
	}
	token, path := c.name("client"), "/"+c.name("dir")
	p, err := c.open.fs.CreateAccessPoint(bg, catalog.AccessPoint{FileSystem: id, Token: token, Created: c.now, Root: catalog.RootDirectory{Path: path}})
	c.must(err)
	c.m.setPoint(id, p.ID, crashPoint{Token: token, Path: path})
	return true
}

// pickPoint returns an access point of an available file system.
func (c *crashRun) pickPoint() (fs, point string, ok bool) {
	fs, ok = pick(c, c.m.FileSystems, func(_ string, f crashFS) bool { return f.State == "available" && len(f.Points) > 0 })
	if !ok {
		return "", "", false
	}
	point, ok = pick(c, c.m.FileSystems[fs].Points, func(string, crashPoint) bool { return true })
	return fs, point, ok
}

func (c *crashRun) tagPoint() bool {
	fs, id, ok := c.pickPoint()
	if !ok {
		return false
	}
	tags := []catalog.Tag{{Key: c.name("key"), Value: "v"}}
	_, err := c.open.fs.ChangeAccessPoint(bg, id, func(a *catalog.AccessPoint) error {
		a.Tags = tags
		return nil
	})
	c.must(err)
	p := c.m.FileSystems[fs].Points[id]
	p.Tags = tagsOf(tags)
	c.m.setPoint(fs, id, p)
	return true
}

func (c *crashRun) deletePoint() bool {
	fs, id, ok := c.pickPoint()
	if !ok {
		return false
	}
	c.must(c.open.fs.DeleteAccessPoint(bg, id))
	delete(c.m.FileSystems[fs].Points, id)
	return true
}

// createTarget makes the subnet first if there is none: an operation of its own.
func (c *crashRun) createTarget() bool {
	id, ok := pick(c, c.m.FileSystems, func(_ string, f crashFS) bool { return f.State == "available" && len(f.Targets) == 0 })
	if len(c.m.Subnets) == 0 {
		s, err := c.open.fs.CreateSubnet(bg, catalog.Subnet{Name: "s", Interface: "eth0", Prefix: netip.MustParsePrefix("192.0.2.0/24")})
		c.must(err)
		c.m.Subnets = []string{s.ID}
		return true
	}
	if !ok {
		return false
	}
	made, err := c.open.fs.CreateMountTarget(bg, catalog.MountTarget{FileSystem: id, Subnet: c.m.Subnets[0], Created: c.now})
	c.must(err)
	c.m.setTarget(id, made.ID, made.Address.String())
	return true
}

func (c *crashRun) deleteTarget() bool {
	fs, ok := pick(c, c.m.FileSystems, func(_ string, f crashFS) bool { return len(f.Targets) > 0 })
	if !ok {
		return false
	}
	id, _ := pick(c, c.m.FileSystems[fs].Targets, func(string, string) bool { return true })
	c.must(c.open.fs.DeleteMountTarget(bg, id))
	delete(c.m.FileSystems[fs].Targets, id)
	return true
}

func (c *crashRun) createKey() bool {
	description, tags := c.name("key"), map[string]string{c.name("tag"): "v"}
	k := crashKey{State: string(Enabled), Description: description, Policy: c.open.keys.defaultPolicy(), Versions: 1, Material: true, Tags: tags}
	make := c.open.keys.Create
	if c.rng.IntN(4) == 0 {
		make, k.External, k.Material, k.State = c.open.keys.CreateExternal, true, false, string(PendingImport)
	}
	key, err := make(bg, description, "", tags)
	c.must(err)
	c.m.Keys[key.ID] = k
	return true
}

func (c *crashRun) managedKey() bool {
	const service = "elasticfilesystem"
	key, err := c.open.keys.Managed(bg, service)
	c.must(err)
	if _, there := c.m.Aliases[ManagedAlias(service)]; !there {
		c.m.Aliases[ManagedAlias(service)] = key.ID
		c.m.Keys[key.ID] = crashKey{State: string(Enabled), Description: key.Description, Policy: c.open.keys.managedPolicy(service),
			Versions: 1, PeriodDays: managedRotationDays, Material: true}
	}
	return true
}

func (c *crashRun) rotateKey() bool {
	id, ok := c.pickKey(Enabled)
	if !ok || c.m.Keys[id].External || c.m.Keys[id].Versions > maxOnDemand {
		return false
	}
	_, err := c.open.keys.Rotate(bg, id)
	c.must(err)
	c.setKey(id, func(k *crashKey) { k.Versions++ })
	return true
}

func (c *crashRun) enableRotation() bool {
	id, ok := c.pickKey(Enabled)
	if !ok || c.m.Keys[id].External {
		return false
	}
	days := minRotationDays + c.rng.IntN(100)
	c.must(c.open.keys.EnableRotation(bg, id, days))
	c.setKey(id, func(k *crashKey) { k.PeriodDays = days })
	return true
}

// changeKey gives a key another description, policy and tag at once.
func (c *crashRun) changeKey() bool {
	id, ok := c.pickKey(Enabled, Disabled, PendingImport)
	if !ok {
		return false
	}
	description, tag := c.name("description"), c.name("tag")
	text := strings.Replace(c.open.keys.defaultPolicy(), "Enable IAM", c.text(), 1)
	_, err := c.open.keys.Change(bg, id, func(k *Key) error {
		k.Description = description
		k.Tags = map[string]string{tag: "v"}
		return k.SetPolicy(text)
	})
	c.must(err)
	c.setKey(id, func(k *crashKey) { k.Description, k.Policy, k.Tags = description, text, map[string]string{tag: "v"} })
	return true
}

func (c *crashRun) toggleKey() bool {
	id, ok := c.pickKey(Enabled, Disabled)
	if !ok {
		return false
	}
	change, state := (*Key).Disable, Disabled
	if c.m.Keys[id].State == string(Disabled) {
		change, state = (*Key).Enable, Enabled
	}
	_, err := c.open.keys.Change(bg, id, change)
	c.must(err)
	c.setKey(id, func(k *crashKey) { k.State = string(state) })
	return true
}

func (c *crashRun) scheduleDeletion() bool {
	id, ok := c.pickKey(Enabled, Disabled, PendingImport)
	if !ok {
		return false
	}
	days := minDeletionDays + c.rng.IntN(20)
	_, err := c.open.keys.ScheduleDeletion(bg, id, days)
	c.must(err)
	due := c.now.AddDate(0, 0, days).Format(time.RFC3339)
	c.setKey(id, func(k *crashKey) { k.State, k.Deletion = string(PendingDeletion), due })
	return true
}

func (c *crashRun) cancelDeletion() bool {
	id, ok := c.pickKey(PendingDeletion)
	if !ok || c.m.Keys[id].Deletion <= c.now.Format(time.RFC3339) { // a crash kept a sweep from ending it
		return false
	}
	_, err := c.open.keys.Change(bg, id, (*Key).CancelDeletion)
	c.must(err)
	c.setKey(id, func(k *crashKey) {
		if k.State, k.Deletion = string(Disabled), ""; !k.Material {
			k.State = string(PendingImport)
		}
	})
	return true
}

// sweep lets the time come at which the first keys are destroyed: their grants go first, then key and aliases.
func (c *crashRun) sweep() bool {
	due := ""
	for _, k := range c.m.Keys {
		if k.Deletion != "" && (due == "" || k.Deletion < due) {
			due = k.Deletion
		}
	}
	if due == "" {
		return false
	}
	now, err := time.Parse(time.RFC3339, due)
	c.must(err)
	if now.After(c.now) {
		c.now = now
	}
	c.must(c.open.keys.Sweep(bg))
	for _, id := range slices.Sorted(maps.Keys(c.m.Keys)) {
		if d := c.m.Keys[id].Deletion; d == "" || d > c.now.Format(time.RFC3339) {
			continue
		}
		c.setKey(id, func(k *crashKey) { k.Grants = nil })
		c.between = append(c.between, c.m.clone())
		delete(c.m.Keys, id)
		maps.DeleteFunc(c.m.Aliases, func(_, key string) bool { return key == id })
		c.between = append(c.between, c.m.clone())
	}
	c.forget()
	return true
}

func (c *crashRun) createGrant() bool {
	id, ok := c.pickKey(Enabled)
	if !ok {
		return false
	}
	g, err := c.open.keys.CreateGrant(bg, Grant{Key: id, Name: c.name("grant"), Grantee: "arn:aws:iam::000000000000:user/bob",
		Operations: []string{"Encrypt", "Decrypt"}})
	c.must(err)
	c.setKey(id, func(k *crashKey) {
		if k.Grants == nil {
			k.Grants = map[string]string{}
		}
		k.Grants[g.ID] = "arn:aws:iam::000000000000:user/bob Decrypt Encrypt"
	})
	return true
}

func (c *crashRun) revokeGrant() bool {
	id, ok := pick(c, c.m.Keys, func(_ string, k crashKey) bool { return len(k.Grants) > 0 && k.Deletion == "" })
	if !ok {
		return false
	}
	grant, _ := pick(c, c.m.Keys[id].Grants, func(string, string) bool { return true })
	c.must(c.open.keys.RemoveGrant(bg, &Grant{Key: id, ID: grant}))
	delete(c.m.Keys[id].Grants, grant)
	return true
}

func (c *crashRun) setAlias() bool {
	id, ok := c.pickKey(Enabled, Disabled)
	if !ok {
		return false
	}
	name, ok := c.pickAlias()
	if ok && c.rng.IntN(2) == 0 {
		c.must(c.open.keys.UpdateAlias(bg, name, id))
	} else {
		name = "alias/" + c.name("a")
		c.must(c.open.keys.CreateAlias(bg, name, id))
	}
	c.m.Aliases[name] = id
	return true
}

func (c *crashRun) pickAlias() (string, bool) {
	return pick(c, c.m.Aliases, func(name, _ string) bool { return !strings.HasPrefix(name, reservedAliases) })
}

func (c *crashRun) deleteAlias() bool {
	name, ok := c.pickAlias()
	if !ok {
		return false
	}
	c.must(c.open.keys.DeleteAlias(bg, name))
	delete(c.m.Aliases, name)
	return true
}

// importMaterial imports the material that the key had before, or new.
func (c *crashRun) importMaterial() bool {
	id, ok := c.pickKey(PendingImport)
	if !ok {
		return false
	}
	if c.material[id] == nil {
		c.material[id] = make([]byte, materialBytes)
		_, _ = cryptorand.Read(c.material[id]) // never fails
	}
	token, err := c.open.keys.sealToken(id, c.private, c.now.Add(time.Hour))
	c.must(err)
	encrypted, err := rsa.EncryptOAEP(sha256.New(), cryptorand.Reader, &c.private.PublicKey, c.material[id], nil)
	c.must(err)
	_, err = c.open.keys.Import(bg, id, token, encrypted, time.Time{})
	c.must(err)
	c.setKey(id, func(k *crashKey) { k.State, k.Material = string(Enabled), true })
	return true
}

func (c *crashRun) deleteMaterial() bool {
	id, ok := pick(c, c.m.Keys, func(_ string, k crashKey) bool { return k.External && k.Material && k.Deletion == "" })
	if !ok {
		return false
	}
	_, err := c.open.keys.DeleteMaterial(bg, id)
	c.must(err)
	c.setKey(id, func(k *crashKey) { k.State, k.Material = string(PendingImport), false })
	return true
}

// dataKey makes a data key, which may find that its key is to be rotated.
func (c *crashRun) dataKey() bool {
	id, ok := pick(c, c.m.Keys, func(_ string, k crashKey) bool { return k.State == string(Enabled) })
	if !ok {
		return false
	}
	key, err := c.open.keys.Find(bg, id)
	c.must(err)
	due := key.rotationDue(c.now)
	fresh, err := keyring.NewDataKey(cryptorand.Reader)
	c.must(err)
	defer fresh.Close()
	ec := keyring.Context{"aws:elasticfilesystem:filesystem:id": c.name("fs")}
	b := crashBlob{key: id, ec: ec}
	c.must(fresh.Use(func(plaintext []byte) { b.blob, err = c.open.keys.Encrypt(bg, key, plaintext, ec) }))
	c.must(err)
	c.blobs = append(c.blobs, b)
	if due {
		c.setKey(id, func(k *crashKey) { k.Versions++ })
	}
	return true
}
