// Package sessiontest has the contract of TLS sessions, whoever carries them, as tests: package tlsrecord runs it in user
// space, package ktls where the kernel does it. The peers are crypto/tls, OpenSSL and sessions of the same kind. What
// tests of sessions need besides is here too: connections, policies, data.
package sessiontest
