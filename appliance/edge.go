package appliance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/network"
	"github.com/nfseal/nfseal/bpf/gate"
	"github.com/nfseal/nfseal/bpf/steer"
)

// storedName is what the steered sockets are called in the service manager's store.
const storedName = "nfs"

// inherit takes the steered sockets of the daemon before this one: from that one itself, which drains
// and goes then, or from the service manager.
func (a *Appliance) inherit(ctx context.Context) error {
	m := &a.o.ServiceManager
	env := steer.Environment{PID: m.ListenPID, FDs: m.ListenFDs, Names: m.ListenFDNames}
	stored, err := steer.Stored(env, storedName)
	if err != nil {
		return err
	}
	a.inherited = stored
	if !a.o.Takeover {
		return nil
	}
	t, err := steer.Take(ctx, layout{a.o.DataDir}.takeover())
	if errors.Is(err, steer.ErrNobody) {
		return nil
	}
	if err != nil {
		return err
	}
	closeAll(stored) // the same sockets, or older ones
	a.inherited = t.Listeners
	a.log.Info("taking over; waiting for the running daemon to drain", zap.Int("sockets", len(t.Listeners)))
	ctx, cancel := context.WithTimeout(ctx, retireTimeout)
	defer cancel()
	return t.Retire(ctx)
}

func closeAll(ls []*net.TCPListener) {
	for _, l := range ls {
		l.Close()
	}
}

// openNetwork opens the edge with what the catalog wants, unless that was done.
func (a *Appliance) openNetwork(ctx context.Context) error {
	if a.edge != nil {
		return nil
	}
	n, err := a.catalog.Network(ctx)
	if err != nil {
		return err
	}
	return a.openEdge(&n)
}

// openEdge hands the inherited sockets on.
func (a *Appliance) openEdge(n *catalog.Network) error {
	o := a.o.Network
	ocsp := netip.MustParseAddrPort(a.ocsp.Addr().String()).Port() // asked by everybody, before anything else
	o.GateOpen = append(slices.Clone(o.GateOpen), network.OpenPort{Port: ocsp})
	o.Inherited, a.inherited = a.inherited, nil
	o.Serve = a.serveSteered
	var err error
	if o.State, err = networkState(n); err != nil {
		closeAll(o.Inherited)
		return err
	}
	a.edge, err = network.OpenEdge(o)
	return err
}

// serveSteered has the first mount target's sockets served, when that comes after the start.
func (a *Appliance) serveSteered(ls []*net.TCPListener) error {
	for _, l := range ls {
		if err := a.server.Add(l); err != nil {
			return err
		}
	}
	return a.offerSockets(ls)
}

func (a *Appliance) closeEdge() error {
	closeAll(a.inherited)
	if a.edge == nil {
		return nil
	}
	return a.edge.Close()
}

// allNFS are all sockets on which NFS is served.
func (a *Appliance) allNFS() []net.Listener {
	all := append([]net.Listener(nil), a.nfs...)
	for _, l := range a.edge.Listeners() {
		all = append(all, l)
	}
	return all
}

// offerSockets lets a successor have the steered sockets.
func (a *Appliance) offerSockets(ls []*net.TCPListener) error {
	if len(ls) == 0 {
		return nil
	}
	var err error
	if a.offer, err = steer.NewOffer(a.dir.takeover(), ls); err != nil {
		return err
	}
	if notify := a.o.ServiceManager.NotifySocket; notify != "" {
		if err := steer.Store(notify, storedName, ls); err != nil {
			a.log.Warn("the service manager can't keep the sockets: a restart refuses connections", zap.Error(err))
		}
	}
	a.offered <- a.offer // has room for the only one
	return nil
}

// steeredAddresses are where steered connections come to.
func (a *Appliance) steeredAddresses() []string {
	if len(a.edge.Listeners()) == 0 {
		return nil
	}
	var list []string
	for _, address := range a.edge.Addresses() {
		list = append(list, netip.AddrPortFrom(address, a.o.Network.Port).String())
	}
	return list
}

// RemoveNetwork removes the mount target addresses, and the steering and the gate of the data directory
// in o, that former starts have left. No daemon may be using them.
func RemoveNetwork(o Options) error {
	o.EnsureDefaults()
	return network.RemoveEdge(o.Network)
}

// steeringCheck says what the host could do, for a daemon that does not run.
func steeringCheck() api.Feature {
	f := api.Feature{Name: network.PartSteer, Detail: "this kernel has it; used where -mount-address is given"}
	if err := steer.Supported(); err != nil {
		f.Detail = err.Error()
	}
	return f
}

// Network implements api.Backend.
func (a *Appliance) Network(ctx context.Context, measure time.Duration) (api.Network, error) {
	n, err := a.networkCounters(ctx, measure)
	if err != nil {
		return n, err
	}
	sources, err := a.edge.TopSources()
	for _, s := range sources {
		n.Sources = append(n.Sources, api.NetworkSource{Address: s.Addr.String(), Packets: s.Packets, Verdict: s.Verdict.String(), Target: s.Target})
	}
	return n, err
}

// networkCounters is all but who was refused.
func (a *Appliance) networkCounters(ctx context.Context, measure time.Duration) (api.Network, error) {
	r, err := a.edge.Report(ctx, measure)
	if err != nil {
		return api.Network{}, err
	}
	n := api.Network{Restored: r.Addresses.Restored}
	for _, p := range r.Parts {
		n.Parts = append(n.Parts, api.Feature{Name: p.Name, On: p.On, Detail: p.Detail})
	}
	for i := range r.Addresses.Addresses {
		n.Addresses = append(n.Addresses, addressOf(&r.Addresses.Addresses[i]))
	}
	if r.Steer != nil {
		describeSteer(&n, r.Steer)
	}
	if r.Gate != nil {
		describeGate(&n, &r)
	}
	return n, nil
}

func addressOf(s *network.AddressStatus) api.NetworkAddress {
	out := api.NetworkAddress{
		Address: s.Prefix.String(), Interface: s.Interface.String(), Name: s.Link.Name, MTU: s.Link.MTU,
		Present: s.Present, ByOthers: s.Present && !s.Ours,
	}
	if s.Err != nil {
		out.Problem = s.Err.Error()
	}
	return out
}

func describeSteer(n *api.Network, s *steer.Stats) {
	n.Programs = append(n.Programs, api.NetworkProgram{
		Name: "steer", Runs: s.Runs, RunNanoseconds: s.RunTime.Nanoseconds(), PerRunNanoseconds: s.PerRun().Nanoseconds(),
	})
	n.Sockets = s.Sockets
	for _, t := range s.Targets {
		n.Steered = append(n.Steered, api.NetworkSteered{Address: t.Address.String(), Steered: t.Steered, Refused: t.Refused})
	}
}

// verdictsOf leaves out those without packets.
func verdictsOf(counters map[gate.Verdict]gate.Counter) []api.NetworkVerdict {
	var list []api.NetworkVerdict
	for _, v := range gate.Verdicts() {
		if c := counters[v]; c.Packets > 0 {
			list = append(list, api.NetworkVerdict{Name: v.String(), Dropped: v.Dropped(), Packets: c.Packets, Bytes: c.Bytes})
		}
	}
	return list
}

func describeGate(n *api.Network, r *network.Report) {
	g := r.Gate
	p := api.NetworkProgram{Name: "gate", Runs: g.RunCount, RunNanoseconds: g.RunTime.Nanoseconds()}
	if g.RunCount > 0 {
		p.PerRunNanoseconds = g.RunTime.Nanoseconds() / int64(g.RunCount)
	}
	n.Programs = append(n.Programs, p)
	for _, i := range g.Interfaces {
		n.Interfaces = append(n.Interfaces, api.NetworkInterface{Name: i.Name, Judges: i.Scope.String(), Mode: i.Mode.String(), Why: i.NotNative})
	}
	for _, rule := range g.Rules {
		n.Rules = append(n.Rules, api.NetworkRule{Group: rule.Group, Index: rule.Index, Packets: rule.Packets, Bytes: rule.Bytes})
	}
	n.Verdicts = verdictsOf(g.Verdicts)
	for i := range g.Targets {
		n.Targets = append(n.Targets, api.NetworkTarget{ID: g.Targets[i].ID, Verdicts: verdictsOf(g.Targets[i].Verdicts)})
	}
	for i := range r.Drops {
		d := &r.Drops[i]
		n.Drops = append(n.Drops, api.NetworkDrop{
			Time: d.At.UTC(), Verdict: d.Verdict.String(), Source: fmt.Sprint(d.Source), To: fmt.Sprint(d.To),
			Target: d.Target, Interface: d.Interface, Bytes: d.Bytes,
		})
	}
}
