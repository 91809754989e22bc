package kms

import (
	"bytes"
	cryptorand "crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/internal/crashfs"
	"github.com/nfseal/nfseal/xtsengine/cryptfs"
	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// TestCrashMatrix lets power fail behind every change that the store of catalog and keys makes to its disk, while
// it is opened, used and closed by random operations of the control plane, and opens what each crash left: torn,
// and out of order where nothing was synced. It must be the state before the operation under way, or the one after
// it, or one of those between that recovery ends; everything that was answered is there, and every ciphertext
// that was handed out can be opened.
func TestCrashMatrix(t *testing.T) {
	first := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("NFSEAL_SEED"), 10, 64); err == nil {
		first = n
	}
	private, err := rsa.GenerateKey(cryptorand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	points, answered, kinds := 0, 0, map[string]int{}
	for seed := first; points < crashPoints() && !t.Failed(); seed++ {
		c := newCrashRun(t, seed, private)
		c.run()
		points += c.points
		answered += c.answered
		for kind, n := range c.kinds {
			kinds[kind] += n
		}
		if t.Failed() {
			t.Logf("NFSEAL_SEED=%d", seed)
		}
	}
	t.Logf("%d crashes in the midst of %v, and one behind each of %d answers", points, kinds, answered)
}

// crashPoints is 200, or 10,000 of a long run, unless NFSEAL_POINTS says otherwise.
func crashPoints() int {
	if n, err := strconv.Atoi(os.Getenv("NFSEAL_POINTS")); err == nil {
		return n
	}
	if os.Getenv("NFSEAL_LONG") != "" {
		return 10_000
	}
	return 200
}

// crashDisk keeps what a crash behind each change would leave.
type crashDisk struct {
	disk *vfs.MemFS

	mu   sync.RWMutex // held shared by every change, alone by the crash
	rng  *rand.Rand
	left []*vfs.MemFS
}

func (d *crashDisk) step(change func() error) error {
	d.mu.RLock()
	err := change()
	d.mu.RUnlock()
	d.crash([]int{0, 0, 20, 50, 80, 100})
	return err
}

// crash keeps what is left when one in percents of what was not synced is.
func (d *crashDisk) crash(percents []int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	percent := percents[d.rng.IntN(len(percents))]
	d.left = append(d.left, d.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: d.rng}))
}

// take returns what the crashes since the last time left.
func (d *crashDisk) take() []*vfs.MemFS {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := d.left
	d.left = nil
	return left
}

// crashModel is what the store holds, as users see it.
type crashModel struct {
	FileSystems map[string]crashFS
	Keys        map[string]crashKey
	Aliases     map[string]string // to the id of a key
	Subnets     []string          `json:",omitempty"`
}

type crashFS struct {
	State, Token, Key, Policy, Backup string
	Tags                              map[string]string     `json:",omitempty"`
	Points                            map[string]crashPoint `json:",omitempty"`
	Targets                           map[string]string     `json:",omitempty"` // id to address
}

type crashPoint struct {
	Token, Path string
	Tags        map[string]string `json:",omitempty"`
}

type crashKey struct {
	State, Description, Policy, Deletion string
	Versions, PeriodDays                 int
	External, Material                   bool
	Tags                                 map[string]string `json:",omitempty"`
	Grants                               map[string]string `json:",omitempty"` // id to grantee and operations
}

func newCrashModel() *crashModel {
	return &crashModel{FileSystems: map[string]crashFS{}, Keys: map[string]crashKey{}, Aliases: map[string]string{}}
}

func (m *crashModel) text() string {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (m *crashModel) clone() *crashModel {
	other := newCrashModel()
	if err := json.Unmarshal([]byte(m.text()), other); err != nil {
		panic(err)
	}
	return other
}

// crashBlob is a ciphertext that was handed out.
type crashBlob struct {
	key  string
	blob []byte
	ec   keyring.Context
}

// crashStore is an open store, and both sides of it.
type crashStore struct {
	store *catalog.Local
	fs    *catalog.Catalog
	keys  *Keys
}

// crashRun is one workload.
type crashRun struct {
	t       *testing.T
	rng     *rand.Rand
	seed    uint64
	root    *RootKey
	disk    *crashDisk
	diskKey *keyring.DataKey
	now     time.Time
	private *rsa.PrivateKey // of all imports
	open    crashStore

	m       *crashModel   // as the operation under way leaves it
	between []*crashModel // what it can leave when it is cut short
	blobs   []crashBlob
	// material is what was imported for a key.
	material map[string][]byte
	points   int            // crashes in the midst of something
	kinds    map[string]int // what that was
	answered int            // crashes behind an answer
	count    int            // of names
}

func newCrashRun(t *testing.T, seed uint64, private *rsa.PrivateKey) *crashRun {
	diskKey, err := keyring.NewDataKey(cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &crashRun{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), root: rootForTest(t), diskKey: diskKey, private: private,
		now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), m: newCrashModel(), material: map[string][]byte{}, kinds: map[string]int{},
	}
	c.lay(vfs.NewCrashableMem())
	return c
}

// lay goes on with another disk.
func (c *crashRun) lay(disk *vfs.MemFS) {
	c.disk = &crashDisk{disk: disk, rng: rand.New(rand.NewPCG(c.seed, uint64(c.points)+2))}
}

// opened opens the store that is on a disk, below the encryption that it has in the daemon.
func (c *crashRun) opened(disk vfs.FS) (crashStore, error) {
	fs, err := cryptfs.New(disk, c.diskKey)
	if err != nil {
		return crashStore{}, err
	}
	store, err := catalog.OpenLocal(catalog.LocalOptions{FS: fs, Dir: "catalog"})
	if err != nil {
		return crashStore{}, err
	}
	keys, err := NewKeys(KeysOptions{
		Store: store, Root: c.root, Region: "local-1", Account: "000000000000", Clock: func() time.Time { return c.now },
	})
	return crashStore{store, catalog.New(store), keys}, err
}

func (c *crashRun) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("seed %d: %v", c.seed, err)
	}
}

// run opens the store a few times: after it was closed, and after a crash.
func (c *crashRun) run() {
	defer c.diskKey.Close()
	for range 4 {
		c.do("open", func() bool {
			var err error
			c.open, err = c.opened(crashfs.FS{FS: c.disk.disk, Step: c.disk.step})
			c.must(err)
			return true
		})
		var left []*vfs.MemFS
		for range 4 + c.rng.IntN(40) {
			op := crashOps[c.rng.IntN(len(crashOps))]
			left = c.do(op.name, func() bool { return op.do(c) })
		}
		if len(left) > 0 && c.rng.IntN(2) == 0 {
			c.must(c.open.store.Close())
			c.goOn(left[c.rng.IntN(len(left))])
			continue
		}
		c.do("close", func() bool {
			c.must(c.open.store.Close())
			return true
		})
	}
}

// do does one operation and checks what crashes in its midst left, which it returns. Behind it, when it was
// answered, is one more crash, which keeps nothing that is not synced.
func (c *crashRun) do(kind string, operation func() bool) []*vfs.MemFS {
	before := c.m.clone()
	c.between = nil
	if !operation() {
		return nil
	}
	left := c.disk.take()
	allowed := []string{before.text(), c.m.text()}
	for _, m := range c.between {
		allowed = append(allowed, m.text())
	}
	for _, disk := range left {
		c.points++
		c.kinds[kind]++
		c.check(kind, disk.CrashClone(vfs.CrashCloneCfg{}), allowed)
	}
	c.disk.crash([]int{0})
	c.answered++
	for _, disk := range c.disk.take() { // one, but for what Pebble does by itself
		c.check(kind+", answered", disk, allowed[1:2])
	}
	return left
}

// goOn makes what a crash left the disk of what follows. The model is what is there.
func (c *crashRun) goOn(disk *vfs.MemFS) {
	s, err := c.opened(disk.CrashClone(vfs.CrashCloneCfg{}))
	c.must(err)
	c.m, err = s.model()
	c.must(err)
	c.must(s.store.Close())
	c.forget()
	c.lay(disk)
}

// forget leaves aside the ciphertexts of keys that are destroyed.
func (c *crashRun) forget() {
	c.blobs = slices.DeleteFunc(c.blobs, func(b crashBlob) bool {
		_, there := c.m.Keys[b.key]
		return !there
	})
}

// check opens what a crash left.
func (c *crashRun) check(kind string, disk *vfs.MemFS, allowed []string) {
	s, err := c.opened(disk)
	if err != nil {
		c.t.Fatalf("seed %d, %s: %v", c.seed, kind, err)
	}
	m, err := s.model()
	if err != nil {
		c.t.Fatalf("seed %d, %s: %v", c.seed, kind, err)
	}
	if !slices.Contains(allowed, m.text()) {
		c.t.Fatalf("seed %d, %s: a crash left\n%s\nallowed is one of\n%s", c.seed, kind, m.text(), strings.Join(allowed, "\n"))
	}
	c.must(s.consistent(m))
	for _, b := range c.blobs {
		if m.Keys[b.key].Material {
			c.must(s.opens(b))
		}
	}
	c.must(s.recover(m))
	c.must(s.store.Close())
}

// model reads everything.
func (s *crashStore) model() (*crashModel, error) {
	ctx, m := bg, newCrashModel()
	if err := s.readFileSystems(m); err != nil {
		return nil, err
	}
	kvs, _, err := s.store.Range(ctx, keyPrefix)
	if err != nil {
		return nil, err
	}
	for i := range kvs {
		key, err := readKey(&kvs[i]) // as it is on record, though its time may be over
		if err != nil {
			return nil, err
		}
		grants, err := s.keys.Grants(ctx, key.ID)
		if err != nil {
			return nil, err
		}
		m.Keys[key.ID] = modelOfKey(&key, grants)
	}
	aliases, err := s.keys.Aliases(ctx)
	for _, a := range aliases {
		m.Aliases[a.Name] = a.Key
	}
	return m, err
}

func modelOfKey(key *Key, grants []Grant) crashKey {
	k := crashKey{
		State: string(key.State), Description: key.Description, Policy: key.Policy, Versions: len(key.Versions),
		PeriodDays: key.Rotation.PeriodDays, External: key.External(), Material: key.HasMaterial(), Tags: key.Tags,
	}
	if !key.DeletionDate.IsZero() {
		k.Deletion = key.DeletionDate.Format(time.RFC3339)
	}
	for i := range grants {
		if k.Grants == nil {
			k.Grants = map[string]string{}
		}
		k.Grants[grants[i].ID] = grantWords(&grants[i])
	}
	return k
}

func grantWords(g *Grant) string { return g.Grantee + " " + strings.Join(g.Operations, " ") }

func tagsOf(list []catalog.Tag) map[string]string {
	var tags map[string]string
	for _, tag := range list {
		if tags == nil {
			tags = map[string]string{}
		}
		tags[tag.Key] = tag.Value
	}
	return tags
}

func (s *crashStore) readFileSystems(m *crashModel) error {
	all, err := s.fs.List(bg)
	if err != nil {
		return err
	}
	policies, err := s.fs.Policies(bg)
	if err != nil {
		return err
	}
	for i := range all {
		f := &all[i]
		m.FileSystems[f.ID] = crashFS{State: string(f.State), Token: f.CreationToken, Key: f.Key, Policy: policies[f.ID],
			Backup: f.BackupPolicy, Tags: tagsOf(f.Tags)}
		delete(policies, f.ID)
	}
	if len(policies) > 0 {
		return fmt.Errorf("policies of nothing: %v", policies)
	}
	points, err := s.fs.AccessPoints(bg, "")
	if err != nil {
		return err
	}
	for i := range points {
		p := &points[i]
		if _, there := m.FileSystems[p.FileSystem]; !there {
			return fmt.Errorf("access point %s of nothing", p.ID)
		}
		m.setPoint(p.FileSystem, p.ID, crashPoint{p.Token, p.Root.Path, tagsOf(p.Tags)})
	}
	n, err := s.fs.Network(bg)
	for i := range n.MountTargets {
		target := &n.MountTargets[i]
		m.setTarget(target.FileSystem, target.ID, target.Address.String())
	}
	for i := range n.Subnets {
		m.Subnets = append(m.Subnets, n.Subnets[i].ID)
	}
	return err
}

func (m *crashModel) setPoint(fs, id string, p crashPoint) {
	f := m.FileSystems[fs]
	if f.Points == nil {
		f.Points = map[string]crashPoint{}
	}
	f.Points[id] = p
	m.FileSystems[fs] = f
}

func (m *crashModel) setTarget(fs, id, address string) {
	f := m.FileSystems[fs]
	if f.Targets == nil {
		f.Targets = map[string]string{}
	}
	f.Targets[id] = address
	m.FileSystems[fs] = f
}

// consistent looks for records that the typed side does not show.
func (s *crashStore) consistent(m *crashModel) error {
	want := map[string]string{}
	for id, f := range m.FileSystems {
		want["token/"+f.Token] = id
		for point, p := range f.Points {
			want["apid/"+point], want["aptoken/"+p.Token] = id, point
		}
	}
	got := map[string]string{}
	for _, prefix := range []string{"token/", "apid/", "aptoken/"} {
		kvs, _, err := s.store.Range(bg, prefix)
		if err != nil {
			return err
		}
		for _, kv := range kvs {
			got[kv.Key] = string(kv.Value)
		}
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("tokens and ids are %v, want %v", got, want)
	}
	counts := map[string]int{"count/fs": len(m.FileSystems)}
	for id, f := range m.FileSystems {
		counts["apcount/"+id] = len(f.Points)
	}
	for key, want := range counts {
		kv, found, _, err := s.store.Get(bg, key)
		if err != nil {
			return err
		}
		if text := string(kv.Value); text != strconv.Itoa(want) && (found || want != 0) {
			return fmt.Errorf("%s is %q, want %d", key, text, want)
		}
	}
	for name, key := range m.Aliases {
		if _, there := m.Keys[key]; !there {
			return fmt.Errorf("%s is an alias of nothing", name)
		}
	}
	grants, err := s.keys.Grants(bg, "")
	for i := range grants {
		if _, there := m.Keys[grants[i].Key]; !there {
			return fmt.Errorf("grant %s of nothing", grants[i].ID)
		}
	}
	return err
}

// opens says whether a ciphertext can be opened with the material that is there, whatever the state of its key.
func (s *crashStore) opens(b crashBlob) error {
	kv, _, _, err := s.store.Get(bg, keyPrefix+b.key)
	if err != nil {
		return err
	}
	key, err := readKey(&kv)
	if err != nil {
		return err
	}
	key.State = Enabled
	plaintext, err := s.keys.Decrypt(key, b.blob, b.ec)
	if err == nil && len(plaintext) != keyring.KeyBytes {
		err = fmt.Errorf("%d bytes came back", len(plaintext))
	}
	return err
}

// recover ends what was cut short as a start of the daemon does, and looks for what is left of it.
func (s *crashStore) recover(m *crashModel) error {
	for id, f := range m.FileSystems {
		if f.State == string(catalog.Available) {
			continue
		}
		if err := s.fs.Remove(bg, id); err != nil {
			return err
		}
		kvs, _, err := s.store.Range(bg, "")
		if err != nil {
			return err
		}
		for _, kv := range kvs {
			if kv.Key == tokenKey(f.Token) || strings.Contains(kv.Key, id) || !strings.HasPrefix(kv.Key, "kms/") && bytes.Contains(kv.Value, []byte(id)) {
				return fmt.Errorf("%s is left of %s, which was removed", kv.Key, id)
			}
		}
	}
	return nil
}

func tokenKey(token string) string { return "token/" + token }
