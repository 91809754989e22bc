package appliance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/catalog"
)

// Status implements api.Backend.
func (a *Appliance) Status(ctx context.Context) (api.Status, error) {
	records, err := a.catalog.List(ctx)
	if err != nil {
		return api.Status{}, err
	}
	s := api.Status{
		Version:       a.o.Version,
		Started:       a.started.UTC(),
		DataDir:       a.o.DataDir,
		Region:        a.o.Region,
		Suffix:        a.o.Suffix,
		Addresses:     a.addresses(),
		CAFile:        a.dir.caFile(),
		OCSPURL:       a.ocspURL(),
		Connections:   a.server.Stats().Active,
		Features:      a.Features(),
		Units:         make([]api.UnitStatus, 0, len(a.units)),
		FileSystems:   make([]api.FileSystemStatus, 0, len(records)),
		MountTemplate: a.mountCommand("<fs-id>"),
		Host:          hostStatus(),
	}
	views := make(map[string]unitView, len(a.units))
	for _, u := range a.units {
		v := u.view()
		views[u.ID()] = v
		s.Units = append(s.Units, v.status(u.ID()))
	}
	for i := range records {
		s.FileSystems = append(s.FileSystems, a.fileSystemStatus(ctx, &records[i], views))
	}
	return s, nil
}

func (v *unitView) status(id string) api.UnitStatus {
	s := api.UnitStatus{
		ID: id, State: string(v.state), VolumeBytes: v.volume.SizeBytes, FreeBytes: v.freeBytes(),
		Epoch: v.epoch, FileSystems: len(v.served) + len(v.broken),
	}
	if v.reason != nil {
		s.Reason = v.reason.Error()
	}
	return s
}

func (a *Appliance) fileSystemStatus(ctx context.Context, f *catalog.FileSystem, views map[string]unitView) api.FileSystemStatus {
	s := api.FileSystemStatus{
		ID: f.ID, Name: f.Name(), State: string(f.State), Unit: f.Unit, Created: f.Created,
		DNSName: a.o.DNSName(f.ID), MountCommand: a.mountCommand(f.ID),
	}
	s.UsedBytes, _ = a.UsedBytes(ctx, f.ID)
	s.QuotaBytes, s.Key = f.QuotaBytes, f.Key
	if reason := notServed(f, views); reason != nil {
		s.State, s.Reason = "error", reason.Error()
	}
	return s
}

// notServed says why an available file system is not served, nil if it is.
func notServed(f *catalog.FileSystem, views map[string]unitView) error {
	v, here := views[f.Unit]
	switch {
	case f.State != catalog.Available:
		return nil
	case !here:
		return fmt.Errorf("its unit, %s, is not here", f.Unit)
	case v.state == UnitFailed:
		return fmt.Errorf("its unit has failed: %w", v.reason)
	case v.state == UnitStopped:
		return errors.New("its unit is stopped")
	case v.broken[f.ID] != nil:
		return v.broken[f.ID]
	case v.sealed[f.ID] != nil:
		return fmt.Errorf("its key can't be used: %w", v.sealed[f.ID])
	case !slices.Contains(v.served, f.ID):
		return errors.New("it is just being opened")
	}
	return nil
}

// UsedBytes implements api.Backend.
func (a *Appliance) UsedBytes(ctx context.Context, id string) (uint64, bool) {
	for _, u := range a.units {
		if used, ok := u.UsedBytes(ctx, id); ok {
			return used, true
		}
	}
	return 0, false
}

// Healthy implements api.Backend.
func (a *Appliance) Healthy() error {
	for _, u := range a.units {
		if state, reason := u.State(); state != UnitServing {
			return errors.Join(fmt.Errorf("unit %s: %s", u.ID(), state), reason)
		}
	}
	if err := a.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// addresses are those on which NFS is served.
func (a *Appliance) addresses() []string {
	list := make([]string, 0, len(a.nfs))
	for _, l := range a.nfs {
		list = append(list, l.Addr().String())
	}
	return append(list, a.steeredAddresses()...)
}

// mountCommand is what mounts the file system id on another machine that has the CA file where
// mount.nfseal looks for it.
func (a *Appliance) mountCommand(id string) string {
	options := []string{"tls"}
	if host := a.hosts()[0]; isAddress(host) {
		options = append(options, "mounttargetip="+host)
	}
	if a.o.Region != DefaultRegion {
		options = append(options, "region="+a.o.Region)
	}
	if a.o.Suffix != DefaultSuffix {
		options = append(options, "suffix="+a.o.Suffix)
	}
	if _, port, _ := net.SplitHostPort(a.nfs[0].Addr().String()); port != "2049" {
		options = append(options, "port="+port)
	}
	return "mount -t nfseal -o " + strings.Join(options, ",") + " " + id + ":/ /mnt"
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// Banner is what an operator wants to see after a start.
func (a *Appliance) Banner() []string {
	return []string{
		"NFS is served at " + fmt.Sprint(a.addresses()) + " as fs-….efs." + a.o.Region + "." + a.o.Suffix,
		"CA file for clients: " + a.dir.caFile(),
		"OCSP responder: " + a.ocspURL(),
		"API socket: " + a.dir.socket(),
		"API for the aws CLI, with an access key of nfseal user: " + a.frontURL(),
		"on another machine, with the CA file copied to /etc/nfseal/ca.pem: " + a.mountCommand("<fs-id>"),
	}
}
