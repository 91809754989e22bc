// Package oidc believes OpenID Connect ID tokens and other JSON Web Tokens (RFC 7519) of identity providers that the operator has
// named. What a provider signs with is in a file, a JSON Web Key Set (RFC 7517): nothing is asked over the network.
//
// A token is believed if a key of its own provider has signed it, the one that it names, by RS256, RS384, RS512, ES256, ES384
// or ES512; if it is for one of the audiences that the provider was given; and if it is within its time. What costs least is
// looked at first: the size, the algorithm, the issuer and the key's name before the signature. Errors hold nothing of a token
// but its issuer.
//
// [Providers] reads a file again when it has changed, at the next token, and on Reload. A file that can't be used any more leaves
// the keys that were there, and is told of in the log once. There are no goroutines; mu guards the keys.
package oidc
