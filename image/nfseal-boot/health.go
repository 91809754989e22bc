package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/transport"
)

// nfsFront is where the daemon serves NFS on this machine.
const nfsFront = "127.0.0.1:2049"

// health says what keeps this machine from serving: every unit has to serve, every file system has to be available, and one
// of them, if there is any, has to answer a client that mounts it through TLS at address.
func health(ctx context.Context, client *api.Client, address string) error {
	s, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if len(s.Units) == 0 {
		return errors.New("there is no unit")
	}
	for _, u := range s.Units {
		if u.State != "serving" {
			return fmt.Errorf("the unit %s is %s: %s", u.ID, u.State, u.Reason)
		}
	}
	var mount *api.FileSystemStatus
	for i := range s.FileSystems {
		switch f := &s.FileSystems[i]; f.State {
		case "available":
			mount = f
		case "error":
			return fmt.Errorf("the file system %s has an error: %s", f.ID, f.Reason)
		}
	}
	if mount == nil {
		return nil
	}
	return selfMount(ctx, s.CAFile, address, mount.DNSName)
}

// selfMount does what a client does first. That a policy refuses it is an answer too.
func selfMount(ctx context.Context, caFile, address, name string) error {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return fmt.Errorf("%s has no certificate", caFile)
	}
	conn, err := transport.Dial(ctx, address, transport.ClientOptions{Roots: roots, ServerName: name})
	if err != nil {
		return fmt.Errorf("a mount on this machine: %w", err)
	}
	defer conn.Close()
	client, err := nfsclient.New(ctx, conn, nfsclient.Options{Owner: "nfseal-boot", NoRenew: true})
	if err == nil {
		defer client.Close()
		_, err = client.Root(ctx)
	}
	if err != nil && !errors.Is(err, wire.NFS4ERR_ACCESS) {
		return fmt.Errorf("a mount on this machine: %w", err)
	}
	return nil
}
