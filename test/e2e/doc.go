// Package e2e tests nfseal from outside: the built daemon, mount helper and command, and Linux's own
// NFS client (package uml), over TLS.
//
// Nothing here knows the daemon's insides. A server is a process with a data directory, a client is a
// guest; both live in a network namespace of the test. The work in the guest is done by the programs
// in workload and by the guest's own agent.
//
// The tests need root and what scripts/deps.sh installs; make test and .ci/run see to that. Those that
// run for minutes need NFSEAL_LONG=1 (make test-long).
package e2e
