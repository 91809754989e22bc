// Package trusttest has roots of trust for tests: a TPM that swtpm emulates, which is reached, read and
// started anew as a real one is, and a server that speaks as much of the API of Vault's transit engine as the
// daemon uses. No real Vault runs in it.
package trusttest
