package appliance

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/audit/forward"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/certfile"
	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/network"
	"github.com/nfseal/nfseal/appliance/oidc"
	"github.com/nfseal/nfseal/appliance/pki"
	"github.com/nfseal/nfseal/appliance/policy"
	"github.com/nfseal/nfseal/bpf/steer"
	"github.com/nfseal/nfseal/internal/cpuidle"
	"github.com/nfseal/nfseal/proxy"
	"github.com/nfseal/nfseal/proxy/ktls"
	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/xtsengine/filestore"
	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// Appliance is an open data directory with everything that serves it. Its methods may be called
// concurrently.
type Appliance struct {
	o       Options
	log     *zap.Logger
	started time.Time

	dir        *dataDir
	audit      *audit.Log
	tampered   *tamperLog
	forwarders []*forward.Forwarder // of the audit log; does not change after Open
	keys       *kms.Service         // the root key
	kmsKeys    *kms.Keys
	kms        *kms.Client // of file systems
	keyWatch   keyWatch
	advertised advertised
	catalogKey *keyring.DataKey
	store      *catalog.Local
	catalog    *catalog.Catalog
	authority  *pki.Authority
	certFiles  *certfile.Source // nil without certificates in files
	identities *oidc.Providers
	table      *table
	caches     *filestore.Caches // of all file systems
	units      []*Unit           // does not change after Open

	nfs       []net.Listener // bound to Options.Listen
	inherited []*net.TCPListener
	edge      *network.Edge
	offer     *steer.Offer      // nil without steering
	offered   chan *steer.Offer // one that Run does not know of
	ocsp, api net.Listener
	front     frontDoor
	carrier   *ktls.Carrier   // of TLS sessions
	keeper    *cpuidle.Keeper // nil unless Options.IdlePoll, and where that has no use
	keeperErr error           // why it is nil
	server    *proxy.Server
	apiServer *api.Server
	responder *http.Server

	broken atomic.Pointer[error] // why the catalog has failed

	// admin is held while a file system, a unit or a part of the network is made, started, stopped or
	// destroyed.
	admin sync.Mutex

	closing sync.Once
	closed  error
}

var _ api.Backend = (*Appliance)(nil)

// Open opens the data directory, or makes it, starts its units and listens; Run serves. What can be
// refused is refused before anything is written.
func Open(ctx context.Context, o Options) (*Appliance, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	a := &Appliance{o: o, log: o.Log, started: o.Clock(), offered: make(chan *steer.Offer, 1)}
	a.advertised.hosts, a.advertised.ocspHost = o.Advertise, o.OCSPHost
	if err := a.open(ctx); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Appliance) open(ctx context.Context) error {
	if err := a.o.checkCertFiles(); err != nil {
		return err
	}
	var err error
	if a.carrier, err = ktls.New(ktls.Options{Use: a.o.KTLS}); err != nil {
		return err
	}
	if a.o.IdlePoll {
		a.keeper, a.keeperErr = cpuidle.New()
	}
	var root *rootKey
	if a.o.Takeover {
		if root, err = openAhead(ctx, a.o.DataDir, a.o.Root); err != nil {
			return err
		}
	}
	if err := a.inherit(ctx); err != nil {
		return err
	}
	if a.dir, err = openDataDir(ctx, a.o.DataDir, a.o.Root, root); err != nil {
		return err
	}
	var fresh NewVolume
	if a.dir.fresh {
		if fresh, err = chooseVolume(a.dir.dir, &a.o); err != nil {
			return err
		}
		if err := a.listen(ctx); err != nil {
			return err
		}
		if err := a.dir.create(ctx, a.o.Root, a.o.Clock()); err != nil {
			return err
		}
	}
	pending := &pendingLog{}
	if a.keys, err = kms.New(kms.Options{Root: a.dir.root.key, Audit: pending}); err != nil {
		return err
	}
	if !a.dir.fresh {
		if err := a.dir.check(ctx, a.keys, &a.o); err != nil {
			return fmt.Errorf("%s can't be served, and nothing was changed: %w", a.dir.dir, err)
		}
		if err := a.listen(ctx); err != nil {
			return err
		}
	}
	return a.openForWriting(ctx, pending, fresh)
}

// openForWriting goes on where nothing is left to be refused.
func (a *Appliance) openForWriting(ctx context.Context, pending *pendingLog, fresh NewVolume) error {
	if err := a.dir.announce(); err != nil {
		return err
	}
	var err error
	if a.audit, err = audit.Open(audit.Options{Dir: a.dir.audit(), Host: a.o.Host, Clock: a.o.Clock}); err != nil {
		return err
	}
	a.tampered = newTamperLog(a.audit.Append, a.log)
	if err := a.openForwarding(); err != nil {
		return err
	}
	if err := pending.attach(a.audit); err != nil {
		return err
	}
	if err := a.record("StartDaemon"); err != nil {
		return err
	}
	if a.store, a.catalogKey, err = openCatalog(ctx, a.dir.layout, a.keys, a.catalogFailed); err != nil {
		return err
	}
	a.catalog = catalog.New(a.store)
	if err := a.openKMS(); err != nil {
		return err
	}
	if err := a.openNetwork(ctx); err != nil {
		return err
	}
	if err := a.openAuthority(ctx); err != nil {
		return err
	}
	if err := a.certifyFront(ctx); err != nil {
		return err
	}
	if err := a.openUnits(ctx, fresh); err != nil {
		return err
	}
	a.keyWatch.start(a)
	a.followAddresses()
	return a.prepareServers(ctx)
}

func (a *Appliance) catalogFailed(err error) {
	a.broken.Store(&err)
	a.log.Error("the catalog has failed: file systems are served, none can be made or deleted", zap.Error(err))
}

// record puts on record what the daemon itself does.
func (a *Appliance) record(event string) error {
	return a.audit.Append(nfsealEvent(event, map[string]string{"version": a.o.Version}))
}

// listen takes the addresses. Clients that connect wait until Run serves them.
func (a *Appliance) listen(ctx context.Context) error {
	for _, address := range a.o.Listen {
		l, err := proxy.Listen(ctx, address)
		if err != nil {
			return fmt.Errorf("NFS: %w", err)
		}
		a.nfs = append(a.nfs, l)
	}
	var err error
	if a.ocsp, err = proxy.Listen(ctx, a.o.OCSPListen); err != nil {
		return fmt.Errorf("OCSP responder: %w", err)
	}
	a.o.OCSPListen = a.ocsp.Addr().String() // with the port that it has
	if err := a.listenFront(ctx); err != nil {
		return err
	}
	if a.dir.fresh { // nothing is in the catalog, and refusing is still possible
		return a.openEdge(&catalog.Network{})
	}
	return nil
}

func (a *Appliance) openAuthority(ctx context.Context) error {
	var err error
	a.authority, err = pki.Open(ctx, pki.Options{
		Dir: a.dir.pki(), Sealer: a.keys, Region: a.o.Region, Suffix: a.o.Suffix, OCSPURL: a.ocspURL(),
		Events: func(e pki.Event) {
			a.log.Info("certificates", zap.String("what", e.What), zap.String("serial", e.Serial),
				zap.Strings("names", e.Names), zap.Error(e.Err))
		},
	})
	return err
}

// openUnits opens the units, or makes the first one, and starts them.
func (a *Appliance) openUnits(ctx context.Context, fresh NewVolume) error {
	nowhere, err := newNowhere()
	if err != nil {
		return err
	}
	a.table = &table{
		allowPlaintext: a.o.AllowPlaintext, nowhere: nowhere,
		arnOf:     func(id string) string { return api.FileSystemARN(a.o.Region, id) },
		directory: newDirectory(a.o.Region, a.o.Clock, a.openToken),
		refusing:  a.refusing, record: a.audit.Append, log: a.log, refusals: make(map[string]uint64),
		served: make(map[string]*nfs4.Service), policies: make(map[string]*policy.Document),
		points:   make(map[string]*catalog.AccessPoint),
		sessions: make(map[string]map[*session]struct{}),
	}
	n, err := a.catalog.Network(ctx)
	if err != nil {
		return err
	}
	a.table.setMountTargets(a.o.MountTargets, n.MountTargets)
	dirs, err := a.prepareUnits(fresh)
	if err != nil {
		return err
	}
	if err := a.announceRecords(ctx); err != nil {
		return err
	}
	if err := a.announcePolicies(ctx); err != nil {
		return err
	}
	if err := errors.Join(a.announceUsers(ctx), a.announceRoles(ctx)); err != nil {
		return err
	}
	if err := a.announceAccessPoints(ctx); err != nil {
		return err
	}
	if a.caches, err = filestore.NewCaches(a.o.MemoryBytes); err != nil {
		return err
	}
	a.admin.Lock()
	defer a.admin.Unlock()
	for _, dir := range dirs {
		u, err := NewUnit(dir, a.unitOptions())
		if err != nil {
			return err
		}
		a.units = append(a.units, u)
		if err := a.startUnit(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// prepareUnits lists the units, after making the first one if there is none.
func (a *Appliance) prepareUnits(fresh NewVolume) ([]string, error) {
	root := a.dir.units()
	if err := durable.MakeDir(root, 0o700); err != nil {
		return nil, fmt.Errorf("appliance: %w", err)
	}
	if err := removeUnfinished(root); err != nil {
		return nil, err
	}
	dirs, err := unitDirs(root)
	if err != nil || len(dirs) > 0 {
		return dirs, err
	}
	if fresh == (NewVolume{}) { // a first start was cut short, or all units were taken away
		if fresh, err = chooseVolume(root, &a.o); err != nil {
			return nil, err
		}
	}
	a.log.Info("making a volume", zap.Stringer("volume", fresh))
	dir, err := MakeUnit(root, fresh, a.o.Clock())
	return []string{dir}, err
}

// announceRecords tells the table which file systems exist, before any is served.
func (a *Appliance) announceRecords(ctx context.Context) error {
	records, err := a.catalog.List(ctx)
	if err != nil {
		return err
	}
	for i := range records {
		a.table.set(records[i].ID, nil)
	}
	return nil
}

func (a *Appliance) unitOptions() UnitOptions {
	squash, _ := parseSquash(a.o.Squash) // was validated
	return UnitOptions{
		Keys:          a.keys,
		KMS:           a.kms,
		Authority:     a.authority,
		Names:         pki.AddressesOf(a.hosts()),
		Caches:        a.caches,
		Squash:        squash,
		IDDomain:      a.o.IDDomain,
		LeaseSeconds:  a.o.LeaseSeconds,
		GraceSeconds:  a.o.GraceSeconds,
		NoDelegations: a.o.NoDelegations,
		Clock:         a.o.Clock,
		Log:           a.log,
		Served:        a.table.set,
		Tampered:      a.tampered.note,
		KeysEnded:     a.recordKeysEnded,
		QuotaOf:       a.quotaOf,
	}
}

// prepareServers makes the three servers; Run lets them serve.
func (a *Appliance) prepareServers(ctx context.Context) error {
	if err := a.openCertFiles(ctx); err != nil {
		return err
	}
	config, err := transport.ServerConfig(transport.ServerOptions{Certificate: a.certificate, OnlyTLS12: a.o.OnlyTLS12})
	if err != nil {
		return err
	}
	clients, err := clientCAs(a.o.ClientCAFile)
	if err != nil {
		return err
	}
	calls := rpc.Options{Buffers: rpc.NewBuffers(bufferBytes(a.o.MemoryBytes))}
	if a.keeper != nil {
		calls.Lone = a.keeper.Call
	}
	a.server, err = proxy.New(proxy.Options{
		RPC:       calls,
		Listeners: a.allNFS(), TLS: config, ClientCAs: clients, KTLS: a.carrier, Resolver: a.table, Log: a.log.With(zap.String("component", "proxy")),
	})
	if err != nil {
		return err
	}
	upgrades, err := openUpgrades(a.o.Upgrades)
	if err != nil {
		return err
	}
	a.identities, err = oidc.Open(a.o.Identities, a.log.With(zap.String("component", "oidc")))
	if err != nil {
		return err
	}
	a.apiServer, err = api.New(api.Options{
		Backend: a, Audit: a.audit, Keys: a.kmsKeys, Upgrades: upgrades, Identities: a.identities, Configurations: a.o.Configurations, Region: a.o.Region, Clock: a.o.Clock, Log: a.log.With(zap.String("component", "api")),
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(ocspPath, a.authority.Responder())
	mux.Handle(ocspPath+"/", a.authority.Responder())
	mux.HandleFunc("GET "+caPath, a.giveCA)
	a.responder = &http.Server{
		Handler: mux, ReadTimeout: ocspTimeout, WriteTimeout: ocspTimeout, IdleTimeout: ocspTimeout,
		MaxHeaderBytes: 8 << 10, ErrorLog: zap.NewStdLog(a.log.With(zap.String("component", "ocsp"))),
	}
	if a.api, err = api.Listen(a.dir.socket()); err != nil {
		return err
	}
	return a.offerSockets(a.edge.Listeners())
}

// certificate is one of those in files, if there are any, or that of the first unit that serves: the
// certificates of all units hold the same wildcard and addresses.
func (a *Appliance) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if a.certFiles != nil {
		return a.certFiles.GetCertificate(hello)
	}
	for _, u := range a.units {
		if certificate := u.Certificate(); certificate != nil {
			return certificate.GetCertificate(hello)
		}
	}
	return nil, errors.New("appliance: no unit serves")
}

// Run serves until ctx ends or a server breaks, then drains: calls under way are answered, and
// connections ended. It is called once; Close follows it.
func (a *Appliance) Run(ctx context.Context) error {
	broken := make(chan error, 4) // room for all four: none waits to say so
	var servers sync.WaitGroup
	serve := func(name string, f func() error) {
		servers.Go(func() {
			if err := f(); err != nil {
				broken <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	serve("NFS", func() error { return a.server.Serve(context.Background()) })
	serve("API", func() error { return a.apiServer.Serve(a.api) })
	serve("API's front door", a.serveFront)
	serve("OCSP responder", func() error { return a.serveOCSP() })
	err := errors.Join(a.untilDrain(ctx, broken), a.stopServers())
	servers.Wait()
	return err
}

// untilDrain waits for a reason to drain; one that is an error is returned.
func (a *Appliance) untilDrain(ctx context.Context, broken <-chan error) error {
	var taken <-chan struct{} // by a successor
	for {
		select {
		case <-ctx.Done():
			a.log.Info("draining")
			return nil
		case <-taken:
			a.log.Info("a successor has taken over, draining")
			return nil
		case err := <-broken:
			a.log.Error("a server broke, draining", zap.Error(err))
			return err
		case offer := <-a.offered:
			taken = offer.Taken()
		}
	}
}

func (a *Appliance) serveOCSP() error {
	err := a.responder.Serve(api.Limit(a.ocsp, maxOCSPConnections))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// stopServers ends NFS first, and the responder last: clients that are served still need it.
func (a *Appliance) stopServers() error {
	var errs []error
	if a.server != nil {
		errs = append(errs, a.server.Close())
	}
	if a.apiServer != nil {
		errs = append(errs, a.apiServer.Close())
	}
	if a.responder != nil {
		ctx, cancel := context.WithTimeout(context.Background(), ocspTimeout)
		defer cancel()
		errs = append(errs, a.responder.Shutdown(ctx))
	}
	return errors.Join(errs...)
}

// Close stops the units and gives the data directory back. It is for after Run, or instead of it. A
// second call does nothing but return what the first did.
func (a *Appliance) Close() error {
	a.closing.Do(func() { a.closed = a.close() })
	return a.closed
}

func (a *Appliance) close() error {
	errs := []error{a.stopServers()}
	for _, l := range append(a.nfs, a.ocsp, a.api, a.front.listener) {
		if l != nil {
			l.Close() // most of them are closed by their server
		}
	}
	errs = append(errs, a.closeEdge())
	if a.keeper != nil {
		errs = append(errs, a.keeper.Close())
	}
	a.keyWatch.close()
	a.advertised.close()
	a.admin.Lock()
	defer a.admin.Unlock()
	for _, u := range a.units {
		errs = append(errs, u.Stop())
	}
	errs = append(errs, a.front.Close())
	if a.certFiles != nil {
		errs = append(errs, a.certFiles.Close())
	}
	if a.caches != nil {
		errs = append(errs, a.caches.Close())
	}
	if a.table != nil {
		errs = append(errs, a.table.nowhere.Close())
	}
	if a.store != nil {
		errs = append(errs, a.store.Close(), a.catalogKey.Close())
	}
	if a.tampered != nil {
		a.tampered.close()
	}
	if a.audit != nil {
		errs = append(errs, a.record("StopDaemon"), a.audit.Close(), a.dir.withdraw())
		a.closeForwarding()
	}
	if a.dir != nil {
		errs = append(errs, a.dir.Close())
	}
	if a.offer != nil {
		errs = append(errs, a.offer.Close()) // the last thing: a successor waits for it
	}
	return errors.Join(errs...)
}

// CreateFileSystem implements api.Backend. It finishes though the caller goes away.
func (a *Appliance) CreateFileSystem(ctx context.Context, f catalog.FileSystem) (catalog.FileSystem, error) {
	ctx = context.WithoutCancel(ctx)
	a.admin.Lock()
	defer a.admin.Unlock()
	u := a.roomiestUnit()
	if u == nil {
		return catalog.FileSystem{}, fmt.Errorf("%w: no unit serves that could hold a file system", ErrNotServing)
	}
	f.Created, f.Unit = a.o.Clock().UTC(), u.ID()
	if f.Key == "" {
		key, err := a.kmsKeys.Managed(ctx, kms.EFS)
		if err != nil {
			return catalog.FileSystem{}, err
		}
		f.Key = key.ID
	}
	f, err := a.catalog.Create(ctx, f)
	if err != nil {
		return f, err
	}
	made, err := a.make(ctx, u, &f)
	if err != nil {
		a.log.Error("file system could not be made", zap.String("file_system", f.ID), zap.Error(err))
		return catalog.FileSystem{}, err
	}
	a.log.Info("file system made", zap.String("file_system", made.ID), zap.String("unit", made.Unit))
	return made, nil
}

// roomiestUnit is the serving unit with the most free space, nil if none serves.
func (a *Appliance) roomiestUnit() *Unit {
	var best *Unit
	var most int64
	for _, u := range a.units {
		if v := u.view(); v.state == UnitServing && (best == nil || v.freeBytes() > most) {
			best, most = u, v.freeBytes()
		}
	}
	return best
}

// DeleteFileSystem implements api.Backend. It finishes though the caller goes away.
func (a *Appliance) DeleteFileSystem(ctx context.Context, id string) error {
	ctx = context.WithoutCancel(ctx)
	a.admin.Lock()
	defer a.admin.Unlock()
	f, err := a.catalog.Get(ctx, id)
	if err != nil {
		return err
	}
	u := a.unit(f.Unit)
	if u == nil {
		return fmt.Errorf("%w: unit %s, which holds %s, is not here", ErrNotServing, f.Unit, id)
	}
	if state, reason := u.State(); state != UnitServing {
		return errors.Join(fmt.Errorf("%w: unit %s, which holds %s, has to serve for that", ErrNotServing, f.Unit, id), reason)
	}
	if _, err := a.catalog.SetState(ctx, id, catalog.Deleting, catalog.Available, catalog.Deleting); err != nil {
		return err
	}
	if err := a.unmake(ctx, u, &f); err != nil {
		a.log.Error("file system could not be deleted", zap.String("file_system", id), zap.Error(err))
		return err
	}
	a.log.Info("file system deleted", zap.String("file_system", id))
	return nil
}

func (a *Appliance) unit(id string) *Unit {
	for _, u := range a.units {
		if u.ID() == id {
			return u
		}
	}
	return nil
}

// StopUnit stops the unit id; the others go on.
func (a *Appliance) StopUnit(id string) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	u := a.unit(id)
	if u == nil {
		return fmt.Errorf("appliance: there is no unit %s", id)
	}
	return u.Stop()
}

// StartUnit starts the unit id, after StopUnit or a failure.
func (a *Appliance) StartUnit(ctx context.Context, id string) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	u := a.unit(id)
	if u == nil {
		return fmt.Errorf("appliance: there is no unit %s", id)
	}
	return a.startUnit(ctx, u)
}

// FileSystems implements api.Backend.
func (a *Appliance) FileSystems(ctx context.Context) ([]catalog.FileSystem, error) {
	return a.catalog.List(ctx)
}
