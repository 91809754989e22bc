// Package iam has the access keys that principals prove themselves with, and the names that may be
// given. It is pure: who has which key is its caller's. A key is an id, which is no secret, and a
// [Secret], which no formatter shows: it is revealed to whoever it was made for, once, and to whoever
// checks a signature.
package iam
