package catalog

import (
	"context"
	"errors"
)

// What a Store can answer besides errors of the system below.
var (
	// ErrCompacted says that changes after the wanted revision are not remembered any more: read
	// everything and watch from there.
	ErrCompacted = errors.New("catalog: the wanted revision is not remembered any more")
	// ErrClosed follows Close.
	ErrClosed = errors.New("catalog: store is closed")
	// ErrFailed says that the store broke and has to be opened again.
	ErrFailed = errors.New("catalog: store has failed")
	// ErrNewerFormat says that a later version wrote the store.
	ErrNewerFormat = errors.New("catalog: written in a newer format than this version reads")
	// ErrInvalid says that a request breaks a limit of the store.
	ErrInvalid = errors.New("catalog: invalid request")
)

// KeyValue is one record. The caller may keep and change Value.
type KeyValue struct {
	Key            string
	Value          []byte
	CreateRevision int64 // when it was made
	ModRevision    int64 // when it was last changed
	Version        int64 // how often it was written since, from 1
}

// Compare is a condition of a Txn: that Key was last changed at ModRevision, or does not exist if
// ModRevision is 0.
type Compare struct {
	Key         string
	ModRevision int64
}

// Op is one write of a Txn.
type Op struct {
	Key    string
	Value  []byte // not kept after the call
	Delete bool   // of a key that need not exist
}

// Put returns the Op that writes value to key.
func Put(key string, value []byte) Op { return Op{Key: key, Value: value} }

// Delete returns the Op that removes key.
func Delete(key string) Op { return Op{Key: key, Delete: true} }

// Txn does Then if all of If hold, else Else, as one change. A key may stand once in each list.
type Txn struct {
	If   []Compare
	Then []Op
	Else []Op
}

// TxnResult says which side was done and what the newest revision is after it. A side without
// writes makes no new revision.
type TxnResult struct {
	Succeeded bool
	Revision  int64
}

// Change is one write that happened. Deleted changes have no value and ModRevision is that of the
// deletion.
type Change struct {
	KeyValue
	Deleted bool
}

// Store is what keeps the catalog. Its methods may be called concurrently.
type Store interface {
	// Get returns the record of key, whether it exists, and the newest revision.
	Get(ctx context.Context, key string) (kv KeyValue, found bool, revision int64, err error)
	// Range returns the records whose keys begin with prefix, in key order, at one revision.
	Range(ctx context.Context, prefix string) (kvs []KeyValue, revision int64, err error)
	// Txn does t. When it returns nil the change is durable.
	Txn(ctx context.Context, t Txn) (TxnResult, error)
	// Watch returns a Watcher of the keys that begin with prefix, from the first change after
	// revision.
	Watch(prefix string, revision int64) Watcher
}

// Watcher hands out changes in the order in which they happened. One goroutine may use it.
type Watcher interface {
	// Next waits for at least one change and returns all that there are, each once. ErrCompacted
	// if the Watcher fell too far behind.
	Next(ctx context.Context) ([]Change, error)
}
