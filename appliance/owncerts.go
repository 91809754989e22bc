package appliance

import (
	"context"
	"errors"
	"slices"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/certfile"
)

// certFileOptions are those of the certificates that were given in files.
func (o *Options) certFileOptions() certfile.Options {
	return certfile.Options{
		Pairs: o.CertFiles,
		Names: append(slices.Clone(o.Advertise), "*.efs."+o.Region+"."+o.Suffix),
	}
}

// checkCertFiles refuses files that can't be used.
func (o *Options) checkCertFiles() error {
	if len(o.CertFiles) == 0 {
		return nil
	}
	return certfile.Check(o.certFileOptions())
}

// openCertFiles takes the certificates that were given in files, if there are any: NFS clients are then shown these,
// and not those of the internal CA.
func (a *Appliance) openCertFiles(ctx context.Context) (err error) {
	if len(a.o.CertFiles) == 0 {
		return nil
	}
	o := a.o.certFileOptions()
	o.Events = func(e certfile.Event) {
		log := a.log.Info
		if e.What != certfile.EventLoaded {
			log = a.log.Warn
		}
		fields := []zap.Field{zap.String("what", e.What)}
		if e.File != "" {
			fields = append(fields, zap.String("file", e.File), zap.Strings("names", e.Names), zap.Time("ends", e.Ends))
		}
		log("certificates", append(fields, zap.Error(e.Err))...)
	}
	a.certFiles, err = certfile.Open(ctx, o)
	return err
}

// Reload takes the certificates in files in again, and opens anew where the audit log is forwarded to. Connections that stand are
// not touched; on an error the old certificates go on.
func (a *Appliance) Reload(ctx context.Context) error {
	for _, f := range a.forwarders {
		f.Reopen()
	}
	err := a.identities.Reload()
	if a.certFiles == nil {
		a.log.Info("no certificates to reload: none were given in files")
		return err
	}
	return errors.Join(err, a.certFiles.Reload(ctx))
}
