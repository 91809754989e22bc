// Package iam has the access keys that principals prove themselves with, the names that may be given,
// sessions of roles and users, and signatures of version 4. It is pure: who has which key is its caller's. A key is an id, which is
// no secret, and a [Secret], which no formatter shows: it is revealed to whoever it was made for, once,
// and to whoever checks a signature.
//
// # Sessions
//
// Who assumes a role, or asks for a session of its own, is given temporary credentials: an access key of its
// own and a token, which holds the [Session] under seal. Whoever gives out tokens keeps nothing: a token is
// good as long as it opens, until its end, while the role or user is there that it is of. A [Caller] is who
// stands behind credentials of either kind, for policies, records and limits. One of whom an identity provider tells has no credentials:
// what it proves itself with is package oidc's.
//
// # Signatures
//
// A [Signature] is read from the header or the query of a request, and verified with the body, which is
// hashed here whatever the client says of it. Host and all headers that begin with x-amz- must be
// signed. A signature holds for five minutes around its time, or for as long as a presigned one says.
// Within that time the same request may come twice, as in AWS: clients repeat what was not answered,
// and TLS keeps others from doing so.
package iam
