package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/nfseal/nfseal/appliance/api"
)

// remote is an appliance elsewhere. What is not given is found where the aws CLI finds it.
type remote struct{ endpoint, caBundle, profile, region string }

func (r *remote) register(f *flag.FlagSet) {
	f.StringVar(&r.endpoint, "endpoint-url", "", "call an appliance from afar at `URL`, with an access key as the aws CLI finds it (default the daemon on this machine)")
	f.StringVar(&r.caBundle, "ca-bundle", "", "`file` with the CA of the appliance, for --endpoint-url (default AWS_CA_BUNDLE, or the machine's)")
	f.StringVar(&r.profile, "profile", "", "`name` of the profile in ~/.aws with the access key, for --endpoint-url")
	f.StringVar(&r.region, "region", "", "the appliance's `region`, for --endpoint-url")
}

// client speaks to the daemon that the flags or the environment name.
func (f *flags) client(ctx context.Context, e *env) (*api.Client, error) {
	switch {
	case f.remote.endpoint != "" && f.socket != "":
		return nil, errors.New("--endpoint-url and --socket name two daemons: give one of them")
	case f.elsewhere(e):
		return f.remote.client(ctx, cmp.Or(f.remote.endpoint, e.endpoint))
	case f.remote != remote{}:
		return nil, errors.New("--ca-bundle, --profile and --region are for an appliance elsewhere: give --endpoint-url or set NFSEAL_ENDPOINT_URL")
	}
	return api.NewClient(f.socketPath(e)), nil
}

// elsewhere says that the daemon is one at an endpoint.
func (f *flags) elsewhere(e *env) bool {
	return f.remote.endpoint != "" || e.endpoint != "" && f.socket == ""
}

// client calls from afar. No metadata service of a cloud is asked for credentials.
func (r *remote) client(ctx context.Context, endpoint string) (*api.Client, error) {
	how := []func(*config.LoadOptions) error{
		config.WithSharedConfigProfile(r.profile), config.WithRegion(r.region), config.WithEC2IMDSClientEnableState(imds.ClientDisabled),
	}
	var roots *x509.CertPool
	if file := cmp.Or(r.caBundle, os.Getenv("AWS_CA_BUNDLE")); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("the CA can't be read: %w", err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", file)
		}
		how = append(how, config.WithCustomCABundle(bytes.NewReader(pem))) // for a profile's role
	}
	c, err := config.LoadDefaultConfig(ctx, how...)
	if err != nil {
		return nil, fmt.Errorf("the access key can't be found: %w", err)
	}
	return api.NewRemoteClient(api.Remote{Endpoint: endpoint, Region: c.Region, Roots: roots, Credentials: c.Credentials})
}
