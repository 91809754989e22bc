package tlsrecord

import (
	"crypto/tls"
	_ "unsafe" // for go:linkname
)

// The suites of TLS 1.3 that crypto/tls offers and accepts, in its order. There is no setting for them,
// and left alone crypto/tls takes AES-128. Go keeps these two names linkable for other projects
// (go.dev/issue/67401): a Go release without them would not link, and a session with another suite
// would end with ErrUnsupported.
//
//go:linkname suitesTLS13 crypto/tls.defaultCipherSuitesTLS13
var suitesTLS13 []uint16

//go:linkname suitesTLS13NoAES crypto/tls.defaultCipherSuitesTLS13NoAES
var suitesTLS13NoAES []uint16

// init leaves AES-256-GCM alone in the lists, for all of the process and before any handshake.
func init() {
	only := []uint16{tls.TLS_AES_256_GCM_SHA384}
	suitesTLS13, suitesTLS13NoAES = only, only
}
