package appliance

import (
	"context"
	"fmt"
	"os"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/oidc"
	"github.com/nfseal/nfseal/proxy/ktls"
)

// Check looks at a data directory, which no daemon may be serving, and at the host, and changes
// nothing. The report says what is well; the error what is not.
func Check(ctx context.Context, o Options) ([]api.Feature, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	report := append([]api.Feature{atRestFeature()}, o.hostFeatures()...)
	if _, err := ktls.New(ktls.Options{Use: o.KTLS}); err != nil {
		return report, err
	}
	if err := o.checkCertFiles(); err != nil {
		return report, err
	}
	if err := oidc.Check(o.Identities); err != nil {
		return report, err
	}
	report = append(report, steeringCheck())
	if _, err := os.Stat(o.DataDir); err != nil {
		return report, fmt.Errorf("appliance: %w", err)
	}
	d, err := openDataDir(ctx, o.DataDir, o.Root, nil)
	if err != nil {
		return report, err
	}
	defer d.Close()
	if d.fresh {
		v, err := chooseVolume(d.dir, &o)
		if err != nil {
			return report, err
		}
		return append(report, api.Feature{
			Name: "data directory", Detail: d.dir + " is empty: a start makes it, with a volume " + v.String(),
		}), nil
	}
	report = append(report, api.Feature{Name: "root key", On: true, Detail: d.root.key.ID().String()}, rootFeature(d.root))
	keys, err := kms.New(kms.Options{Root: d.root.key, Audit: &pendingLog{}})
	if err != nil {
		return report, err
	}
	if err := d.check(ctx, keys, &o); err != nil {
		return report, err
	}
	dirs, err := unitDirs(d.units())
	for _, dir := range dirs {
		report = append(report, api.Feature{Name: "unit", On: true, Detail: dir})
	}
	return report, err
}
