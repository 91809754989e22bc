// Package transporttest has certificates, OCSP answers and checks for tests of everything that
// speaks TLS: a CA that signs whatever it is told to, good or bad, a responder that answers whatever
// it is told to, and a check for goroutines left behind. Only tests import it.
//
// A Responder's server and the goroutines of its connections end with the test that made it.
package transporttest
