package appliance

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/compliance"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/trust"
	"github.com/nfseal/nfseal/proxy/transport"
)

// Compliance implements api.Backend.
func (a *Appliance) Compliance(ctx context.Context) ([]compliance.Finding, error) {
	s := compliance.State{Appliance: compliance.Appliance{
		Name: a.o.Host, Plaintext: a.o.AllowPlaintext, OCSP: a.askResponders(ctx),
		Root: a.o.Root.String(), RootIsFile: a.o.Root.Kind == trust.KeyFile,
	}}
	var err error
	if s.FileSystems, err = a.fileSystemsToJudge(ctx); err != nil {
		return nil, err
	}
	keys, err := a.kmsKeys.List(ctx)
	if err != nil {
		return nil, err
	}
	for i := range keys {
		k := &keys[i]
		s.Keys = append(s.Keys, compliance.Key{
			ID: k.ID, RotationDays: k.Rotation.PeriodDays, Imported: k.External(), PendingDeletion: k.State == kms.PendingDeletion, DeletionDate: k.DeletionDate,
		})
	}
	return compliance.Evaluate(&s), nil
}

// fileSystemsToJudge are those that are there to stay.
func (a *Appliance) fileSystemsToJudge(ctx context.Context) ([]compliance.FileSystem, error) {
	records, err := a.catalog.List(ctx)
	if err != nil {
		return nil, err
	}
	policies, err := a.catalog.Policies(ctx)
	if err != nil {
		return nil, err
	}
	var list []compliance.FileSystem
	for i := range records {
		f := &records[i]
		if f.State == catalog.Deleting {
			continue
		}
		text, has := policies[f.ID]
		list = append(list, compliance.FileSystem{
			ID: f.ID, ARN: api.FileSystemARN(a.o.Region, f.ID), Key: f.Key, Policy: text, HasPolicy: has,
		})
	}
	return list, nil
}

// askResponders asks, as a client would, about each certificate that clients of NFS are shown.
func (a *Appliance) askResponders(ctx context.Context) map[string]error {
	answers := make(map[string]error)
	if a.certFiles != nil {
		for _, state := range a.certFiles.States() {
			answers[state.File] = nil
			if !a.o.Clock().Before(state.StapleEnds) {
				answers[state.File] = errors.New("there is no OCSP response that calls it good")
			}
		}
		return answers
	}
	for _, u := range a.units {
		if c := u.Certificate(); c != nil {
			answers["unit "+u.ID()] = a.askAbout(ctx, c.Leaf())
		}
	}
	return answers
}

// responderPatience bounds how long a responder is waited for; there is one, on this machine.
const responderPatience = 2 * time.Second

func (a *Appliance) askAbout(ctx context.Context, leaf *x509.Certificate) error {
	if _, err := transport.FetchStaple(ctx, leaf, a.authority.Certificate(), responderPatience); err != nil {
		return fmt.Errorf("no responder calls it good: %w", err)
	}
	return nil
}
