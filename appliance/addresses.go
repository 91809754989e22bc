package appliance

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/pki"
)

// advertised is how clients reach this machine. Unless it was told, it follows the addresses that there are: a lease
// of DHCP may come after the start, or be of another address one day.
type advertised struct {
	mu       sync.Mutex
	hosts    []string // at least one
	ocspHost string

	cancel context.CancelFunc // nil if nothing is followed
	ended  chan struct{}
}

// hosts are the names and addresses that clients may use.
func (a *Appliance) hosts() []string {
	a.advertised.mu.Lock()
	defer a.advertised.mu.Unlock()
	return a.advertised.hosts
}

// ocspURL is the address of the responder that goes into certificates.
func (a *Appliance) ocspURL() string {
	a.advertised.mu.Lock()
	defer a.advertised.mu.Unlock()
	return a.o.ocspURL(a.advertised.ocspHost)
}

// followAddresses looks at the machine's addresses from time to time. What it sees twice is taken: an interface
// that is being set up has some for a moment only.
func (a *Appliance) followAddresses() {
	if !a.o.ownAddresses {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &a.advertised
	w.cancel, w.ended = cancel, make(chan struct{})
	go func() {
		defer close(w.ended)
		var before []string
		for look := time.NewTicker(addressLook); ; {
			select {
			case <-ctx.Done():
				look.Stop()
				return
			case <-look.C:
			}
			now := reachableHosts(a.o.Listen)
			if slices.Equal(now, before) && anyReachable(now) && !slices.Equal(now, a.hosts()) {
				a.advertise(ctx, now)
			}
			before = now
		}
	}()
}

// close waits for the goroutine, if there is one.
func (w *advertised) close() {
	if w.cancel != nil {
		w.cancel()
		<-w.ended
	}
}

// anyReachable says whether others can reach one of hosts: a machine whose last cable was pulled keeps its certificates.
func anyReachable(hosts []string) bool {
	return slices.ContainsFunc(hosts, func(h string) bool {
		address, err := netip.ParseAddr(h)
		return err != nil || !address.IsLoopback()
	})
}

// advertise puts other addresses into all certificates. Connections that stand are not touched; what fails is tried
// again at the next look.
func (a *Appliance) advertise(ctx context.Context, hosts []string) {
	a.admin.Lock()
	defer a.admin.Unlock()
	ocspHost := a.o.OCSPHost
	if a.o.ownOCSPHost {
		if ocspHost = a.advertised.ocspHost; !slices.Contains(hosts, ocspHost) {
			ocspHost = hosts[0]
		}
	}
	a.authority.SetOCSPURL(a.o.ocspURL(ocspHost))
	errs := []error{a.front.setHosts(ctx, hosts)}
	for _, u := range a.units {
		errs = append(errs, u.SetNames(ctx, pki.AddressesOf(hosts)))
	}
	if err := errors.Join(errs...); err != nil {
		a.log.Error("certificates lack an address of this machine", zap.Strings("addresses", hosts), zap.Error(err))
		return
	}
	a.advertised.mu.Lock()
	defer a.advertised.mu.Unlock()
	a.advertised.hosts, a.advertised.ocspHost = hosts, ocspHost
	a.log.Info("this machine's addresses have changed", zap.Strings("addresses", hosts))
}
