package appliance

import (
	"crypto/x509"
	"fmt"
	"os"
)

// clientCAs reads a PEM file; nil if there is to be none.
func clientCAs(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("appliance: CAs of clients: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("appliance: CAs of clients: %s has no certificate in PEM", file)
	}
	return pool, nil
}
