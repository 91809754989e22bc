package certfile

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Reasons for which a certificate is not used; an error of Load wraps one of them.
var (
	ErrUnreadable = errors.New("can't be read")
	ErrOpen       = errors.New("the private key is open to others")
	ErrSyntax     = errors.New("is not what it has to be")
	ErrMismatch   = errors.New("the key is not that of the certificate")
	ErrOrder      = errors.New("the chain is not in order")
	ErrDates      = errors.New("outside its dates")
	ErrUse        = errors.New("not fit for a TLS server")
	ErrName       = errors.New("for other names")
)

// Load reads a pair and checks it as package certfile says. Errors are one sentence with the file, the rule and
// what to do; none holds a byte of the key.
func Load(p Pair, names []string, now time.Time) (*tls.Certificate, error) {
	chain, err := loadChain(p.Cert)
	if err != nil {
		return nil, err
	}
	key, err := loadKey(p.Key)
	if err != nil {
		return nil, err
	}
	leaf := chain[0]
	public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, fmt.Errorf("%w: the key in %s and the first certificate in %s don't belong together", ErrMismatch, p.Key, p.Cert)
	}
	for _, check := range []func() error{
		func() error { return checkOrder(p.Cert, chain) },
		func() error { return checkDates(p.Cert, leaf, now) },
		func() error { return checkUse(p.Cert, leaf) },
		func() error { return checkNames(p.Cert, leaf, names) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: leaf}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

// readFile reads a regular file through one descriptor, so that what was looked at is what is read.
func readFile(path string, look func(fs.FileInfo) error) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would wait for its other end
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	case !info.Mode().IsRegular() || info.Size() > maxFileBytes:
		return nil, fmt.Errorf("%w: %s is no file of at most %d bytes", ErrUnreadable, path, maxFileBytes)
	}
	if err := look(info); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return text, nil
}

func loadChain(path string) ([]*x509.Certificate, error) {
	text, err := readFile(path, func(fs.FileInfo) error { return nil })
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d in %s: %w", ErrSyntax, len(chain)+1, path, err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, fmt.Errorf("%w: %s has %d certificates in PEM, from 1 to %d are needed", ErrSyntax, path, len(chain), maxChain)
	}
	return chain, nil
}

// checkOwner is for private keys.
func checkOwner(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %04o: chmod 600 %s", ErrOpen, path, mode, path)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s belongs to user %d, who is neither root nor this process's: chown it", ErrOpen, path, st.Uid)
	}
	return nil
}

func loadKey(path string) (crypto.Signer, error) {
	text, err := readFile(path, func(info fs.FileInfo) error { return checkOwner(path, info) })
	if err != nil {
		return nil, err
	}
	defer clear(text)
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue // a certificate, or the curve's parameters
		}
		defer clear(block.Bytes)
		if strings.HasPrefix(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
			return nil, fmt.Errorf("%w: the key in %s has a passphrase, which a daemon can't be asked for: openssl pkey takes it off", ErrSyntax, path)
		}
		if key := parseKey(block.Bytes); key != nil {
			return key, nil
		}
		return nil, fmt.Errorf("%w: the key in %s is damaged, or not RSA, ECDSA or Ed25519", ErrSyntax, path)
	}
	return nil, fmt.Errorf("%w: %s has no private key in PEM", ErrSyntax, path)
}

// parseKey gives nil for what it doesn't know: an error of crypto/x509 could quote the key.
func parseKey(der []byte) crypto.Signer {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		signer, _ := key.(crypto.Signer)
		return signer
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key
	}
	return nil
}

// checkOrder wants each certificate to be issued by the one behind it.
func checkOrder(path string, chain []*x509.Certificate) error {
	for i := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(chain[i+1]); err != nil {
			return fmt.Errorf("%w: in %s certificate %d (%s) has not issued certificate %d (%s): the server's comes first, then its issuer, and so on",
				ErrOrder, path, i+2, chain[i+1].Subject, i+1, chain[i].Subject)
		}
	}
	return nil
}

func checkDates(path string, leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("%w: the certificate in %s begins at %s: check the clock", ErrDates, path, leaf.NotBefore.UTC().Format(time.RFC3339))
	case now.After(leaf.NotAfter):
		return fmt.Errorf("%w: the certificate in %s has expired at %s: have it renewed", ErrDates, path, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

func checkUse(path string, leaf *x509.Certificate) error {
	usages := leaf.ExtKeyUsage
	serves := slices.Contains(usages, x509.ExtKeyUsageServerAuth) || slices.Contains(usages, x509.ExtKeyUsageAny)
	switch {
	case leaf.IsCA:
		return fmt.Errorf("%w: the first certificate in %s is a CA's: the server's comes first", ErrUse, path)
	case len(usages)+len(leaf.UnknownExtKeyUsage) > 0 && !serves:
		return fmt.Errorf("%w: the certificate in %s lacks the usage serverAuth", ErrUse, path)
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return fmt.Errorf("%w: the key usage of the certificate in %s lacks digitalSignature, which ECDHE needs", ErrUse, path)
	}
	switch key := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSABits {
			return fmt.Errorf("%w: the key of the certificate in %s has %d bits, RSA needs %d", ErrUse, path, key.N.BitLen(), minRSABits)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return fmt.Errorf("%w: the key of the certificate in %s is not RSA, ECDSA or Ed25519", ErrUse, path)
	}
	return nil
}

// checkNames wants one of names, or of those that a *.name stands for, in leaf.
func checkNames(path string, leaf *x509.Certificate, names []string) error {
	has := namesOf(leaf)
	for _, name := range names {
		if holds(leaf, name) {
			return nil
		}
	}
	if len(has) == 0 {
		return fmt.Errorf("%w: the certificate in %s has no subject alternative name; this server is %s",
			ErrName, path, strings.Join(names, ", "))
	}
	return fmt.Errorf("%w: the certificate in %s is for %s; this server is %s (-advertise gives it more names)",
		ErrName, path, strings.Join(has, ", "), strings.Join(names, ", "))
}

func holds(leaf *x509.Certificate, name string) bool {
	suffix, wildcard := strings.CutPrefix(name, "*")
	if !wildcard {
		return leaf.VerifyHostname(name) == nil
	}
	return slices.ContainsFunc(leaf.DNSNames, func(n string) bool { return strings.HasSuffix(strings.ToLower(n), suffix) })
}

// namesOf gives the names and addresses in a certificate.
func namesOf(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, net.IP(ip).String())
	}
	return names
}

// issuerOf is the certificate behind the leaf, or the leaf's own if it has issued itself; nil if the file has none.
func issuerOf(cert *tls.Certificate) *x509.Certificate {
	if len(cert.Certificate) > 1 {
		issuer, err := x509.ParseCertificate(cert.Certificate[1])
		if err == nil {
			return issuer
		}
	}
	if bytes.Equal(cert.Leaf.RawIssuer, cert.Leaf.RawSubject) && cert.Leaf.CheckSignatureFrom(cert.Leaf) == nil {
		return cert.Leaf
	}
	return nil
}
