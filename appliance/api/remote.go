package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Remote says where an appliance is, and who calls.
type Remote struct {
	Endpoint    string                  // https://HOST:PORT
	Region      string                  // the appliance's
	Roots       *x509.CertPool          // nil: the machine's
	Credentials aws.CredentialsProvider // asked for each call
}

// signer signs a request; payload is the SHA-256 of its body in hexadecimal, or iam.UnsignedPayload.
type signer func(r *http.Request, payload string) error

// NewRemoteClient returns a client that calls from afar, with signatures of version 4. It connects when it is used.
func NewRemoteClient(o Remote) (*Client, error) {
	endpoint, err := url.Parse(o.Endpoint)
	switch {
	case err != nil || endpoint.Scheme != "https" || endpoint.Host == "" || strings.Trim(endpoint.Path, "/") != "" || endpoint.RawQuery != "":
		return nil, fmt.Errorf("api: %q is not an endpoint such as https://192.0.2.20:2051", o.Endpoint)
	case o.Region == "":
		return nil, errors.New("api: no region given: it is the appliance's, local-1 if it was not given another")
	case o.Credentials == nil:
		return nil, errors.New("api: no credentials given")
	}
	return &Client{where: o.Endpoint, base: "https://" + endpoint.Host, sign: o.signer(), http: &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12}, MaxIdleConns: 1},
		Timeout:       callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (o *Remote) signer() signer {
	s := v4.NewSigner()
	return func(r *http.Request, payload string) error {
		credentials, err := o.Credentials.Retrieve(r.Context())
		if err != nil {
			return fmt.Errorf("api: no credentials: %w", err)
		}
		return s.SignHTTP(r.Context(), credentials, r, payload, serviceAt(r.URL.Path), o.Region, time.Now())
	}
}

// serviceAt is the service that answers at a path.
func serviceAt(path string) string {
	switch {
	case strings.HasPrefix(path, ownPath):
		return ownService
	case strings.HasPrefix(path, efsPath):
		return "elasticfilesystem"
	}
	return "kms"
}
