// Package pki is the appliance's own certificate authority: it makes the CA at first start, issues and
// renews server certificates, keeps the list of what it issued and revoked, answers OCSP and
// staples OCSP.
//
// # On disk
//
// An Authority owns one directory, 0700:
//
//	<dir>/ca.pem      0644  the CA certificate, for clients (rewritten at each start)
//	<dir>/ca.json     0600  format, certificate, sealed private key
//	<dir>/index.json  0600  format, every certificate issued and not long expired, revocations
//
// A ServerCertificate owns one file in a directory that its caller names (the unit's):
//
//	<dir>/server.json 0600  format, certificate, sealed private key
//
// Private keys are PKCS #8, sealed by the caller's Sealer with a context that names the purpose and
// the hash of the public key; none is ever on disk in the clear. Each file is replaced as a whole:
// written beside, synced, renamed, directory synced. A file of a newer format, a file that doesn't parse, or
// a key that doesn't open is refused and left as it is.
//
// # Order
//
// A serial number is in the index, synced, before its certificate leaves Issue; a revocation is
// in the index before Revoke returns and before OCSP says so. So OCSP never forgets either.
//
// # Goroutines and locks
//
// Each ServerCertificate owns one goroutine that renews the certificate and its staple; Close ends
// it and waits. Lock order: ServerCertificate.mu before Authority.mu before responseCache.mu.
package pki
