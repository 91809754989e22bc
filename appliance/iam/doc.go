// Package iam knows how principals prove who they are: access keys, and the signatures made with
// them (AWS Signature Version 4). It is pure: who has which key is its caller's.
//
// # The proof of a connection
//
// A client of the EFS mount helper signs, with its access key, a request that is never sent. Its
// certificate carries the signature; the handshake proves that it holds the certificate's key. The
// canonical request, in which \n is a line end and there is no empty line after the header:
//
//	GET\n/\nAction=Connect&PublicKeyHash=<40 hex digits>&X-Amz-Algorithm=AWS4-HMAC-SHA256
//	&X-Amz-Credential=<key id>%2F<date>%2F<region>%2Felasticfilesystem%2Faws4_request
//	&X-Amz-Date=<time>&X-Amz-Expires=86400[&X-Amz-Security-Token=<token>]&X-Amz-SignedHeaders=host
//	\nhost:<file system id>\nhost\n<SHA-256 of nothing>
//
// So it is good for one key pair, one file system and one region, for a day.
package iam
