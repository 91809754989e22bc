// Package catalog is the durable state of the control plane: which file systems exist, under which
// names, in which unit, and how far their making or deleting got. What is on a unit itself (keys,
// data) is the unit's; the catalog says what ought to be, and reconciliation makes it so.
//
// # Store
//
// Below the typed records stands a Store, shaped like etcd's: each key has the revision at which it
// was made and last changed and a count of its versions; a Txn compares revisions and then does one
// list of operations or another, atomically and durably, at the cost of one revision; a Watcher
// hands out every change after a revision. Local is the Store of one machine, over Pebble. One over
// etcd can take its place.
//
// # Layout of the local store
//
//	"m/format"    format version, uint32 big-endian
//	"m/revision"  newest revision, int64 big-endian
//	"d/" key      create revision, modification revision, version: int64 each; then the value
//
// The whole store lies on a file system that the caller encrypts (cryptfs).
//
// # Records
//
//	fs/<id>             FileSystem, as JSON
//	token/<creation token>  id
//	policy/<id>         the file system's policy as it was put, in JSON with a format
//	user/<name>         User, as JSON: sealed access keys, policies as they were put
//	role/<name>         Role, as JSON: who may assume it, and its policies, as they were put
//	ap/<file system>/<id>  AccessPoint, as JSON
//	apid/<id>, aptoken/<client token>  the file system, the access point
//	apcount/<file system>  how many access points it has, decimal
//	count/fs            how many file systems there are, decimal
//
// Invariants: an fs record and its token record come and go in one Txn, with the count; a policy
// belongs to a file system that is there, and so do access points, each with its two other records.
//
// # Locks and goroutines
//
// Local.mu orders Txns and guards the history for watchers. A Watcher has no goroutine: Next waits
// in its caller's. After an error that Pebble calls fatal, or a panic within it, the store answers
// ErrFailed to everything; nothing that was acknowledged before is in doubt.
package catalog
