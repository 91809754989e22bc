// Package ssv is the SSV mechanism of GSS-API (RFC 8881 §2.10.9): tokens under a secret that a client and a
// server have in common. It knows nothing of NFS.
//
// A [Context] has the secret, the SSV, in its last few versions. The first one is zero, which everybody
// knows, and makes no tokens. Each further one is its predecessor and what the client sent, XORed; a
// token names its version. Four subkeys come of a version, one each way for MICs and one each way for
// what is sealed:
//
//	subkey = HMAC(SSV, number of the subkey), cut to the length of the cipher's key
//
// Tokens are XDR:
//
//	MIC  | version | hmac<> |               hmac over | version | message<> |
//	seal | version | iv<> | encr<> | hmac<> |
//	       encr = AES-CBC of, and hmac over, | confounder<> | version | message<> | pad<> |
//
// The HMAC of a sealed message is over all that was encrypted, and is checked before any of it is looked at.
// Comparisons take the same time whatever they find. No error and no text says anything of a key.
package ssv
