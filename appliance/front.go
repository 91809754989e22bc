package appliance

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"

	"github.com/nfseal/nfseal/appliance/pki"
	"github.com/nfseal/nfseal/proxy"
)

// noFront as Options.APIListen leaves the front door out.
const noFront = "off"

// frontDoor is where the API is reached from afar. The zero frontDoor is none.
type frontDoor struct {
	listener    net.Listener
	certificate *pki.ServerCertificate
}

// listenFront takes the address of the front door.
func (a *Appliance) listenFront(ctx context.Context) error {
	if a.o.APIListen == noFront {
		return nil
	}
	var err error
	if a.front.listener, err = proxy.Listen(ctx, a.o.APIListen); err != nil {
		return fmt.Errorf("API: %w", err)
	}
	a.o.APIListen = a.front.listener.Addr().String() // with the port that it has
	return nil
}

// certifyFront issues the front door's certificate, for the names of this machine and for loopback.
func (a *Appliance) certifyFront(ctx context.Context) (err error) {
	if a.front.listener == nil {
		return nil
	}
	a.front.certificate, err = a.authority.OpenServerCertificate(ctx, a.dir.tls(), frontNames(a.hosts()))
	return err
}

// frontNames are those of the front door of a machine that clients reach at hosts.
func frontNames(hosts []string) pki.Request {
	names := append([]string{"localhost", "127.0.0.1", "::1"}, hosts...)
	slices.Sort(names)
	return pki.AddressesOf(slices.Compact(names))
}

// setHosts replaces the certificate if it lacks one of hosts.
func (f *frontDoor) setHosts(ctx context.Context, hosts []string) error {
	if f.certificate == nil {
		return nil
	}
	return f.certificate.SetRequest(ctx, frontNames(hosts))
}

// serveFront answers until the API's server is closed.
func (a *Appliance) serveFront() error {
	if a.front.listener == nil {
		return nil
	}
	return a.apiServer.ServeFront(a.front.listener, func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return a.front.certificate.GetCertificate(hello)
	})
}

// frontURL is what --endpoint-url takes.
func (a *Appliance) frontURL() string {
	if a.front.listener == nil {
		return "none (-api-listen off)"
	}
	return "https://" + a.o.APIListen
}

// Close ends the renewal of the certificate.
func (f *frontDoor) Close() error {
	if f.certificate == nil {
		return nil
	}
	return f.certificate.Close()
}
