package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func openLocal(t testing.TB, fs vfs.FS) *Local {
	t.Helper()
	l, err := OpenLocal(LocalOptions{FS: fs, Dir: "catalog"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// model is what a Store means, kept in a map.
type model struct {
	revision int64
	kvs      map[string]KeyValue
}

func (m *model) clone() *model { return &model{m.revision, maps.Clone(m.kvs)} }

func (m *model) txn(t Txn) TxnResult {
	holds := true
	for _, c := range t.If {
		holds = holds && m.kvs[c.Key].ModRevision == c.ModRevision
	}
	ops := t.Then
	if !holds {
		ops = t.Else
	}
	if len(ops) > 0 {
		m.revision++
	}
	for _, op := range ops {
		old, found := m.kvs[op.Key]
		switch {
		case op.Delete:
			delete(m.kvs, op.Key)
		case found:
			m.kvs[op.Key] = KeyValue{op.Key, op.Value, old.CreateRevision, m.revision, old.Version + 1}
		default:
			m.kvs[op.Key] = KeyValue{op.Key, op.Value, m.revision, m.revision, 1}
		}
	}
	return TxnResult{holds, m.revision}
}

func (m *model) prefix(p string) []KeyValue {
	var kvs []KeyValue
	for _, key := range slices.Sorted(maps.Keys(m.kvs)) {
		if strings.HasPrefix(key, p) {
			kvs = append(kvs, m.kvs[key])
		}
	}
	return kvs
}

func randomTxn(rng *rand.Rand, m *model) Txn {
	key := func() string { return fmt.Sprintf("%c/%d", 'a'+rng.IntN(3), rng.IntN(6)) }
	ops := func() (list []Op) {
		for i := range rng.IntN(4) {
			op := Put(fmt.Sprintf("%s/%d", key(), i), fmt.Append(nil, rng.Int()))
			if rng.IntN(3) == 0 {
				op = Delete(op.Key)
			}
			list = append(list, op)
		}
		return list
	}
	t := Txn{Then: ops(), Else: ops()}
	for range rng.IntN(3) {
		c := Compare{Key: key() + "/0", ModRevision: int64(rng.IntN(5))}
		if rng.IntN(2) == 0 {
			c.ModRevision = m.kvs[c.Key].ModRevision
		}
		t.If = append(t.If, c)
	}
	return t
}

func sameKVs(a, b []KeyValue) bool {
	return slices.EqualFunc(a, b, func(x, y KeyValue) bool {
		return x.Key == y.Key && bytes.Equal(x.Value, y.Value) && x.CreateRevision == y.CreateRevision &&
			x.ModRevision == y.ModRevision && x.Version == y.Version
	})
}

func state(t testing.TB, l *Local) *model {
	t.Helper()
	kvs, revision, err := l.Range(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	m := &model{revision, map[string]KeyValue{}}
	for _, kv := range kvs {
		m.kvs[kv.Key] = kv
	}
	return m
}

func TestLocalAgainstModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	fs := vfs.NewMem()
	l := openLocal(t, fs)
	m := &model{kvs: map[string]KeyValue{}}
	for i := range 2000 {
		txn := randomTxn(rng, m)
		got, err := l.Txn(t.Context(), txn)
		if want := m.txn(txn); err != nil || got != want {
			t.Fatalf("txn %d: %+v, %v; want %+v", i, got, err, want)
		}
		if i%50 == 49 {
			prefix := []string{"", "a", "b/3", "zzz"}[rng.IntN(4)]
			kvs, revision, err := l.Range(t.Context(), prefix)
			if err != nil || revision != m.revision || !sameKVs(kvs, m.prefix(prefix)) {
				t.Fatalf("txn %d: range %q at %d is %v, %v; want %v", i, prefix, revision, kvs, err, m.prefix(prefix))
			}
		}
		if i%500 == 499 {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = openLocal(t, fs)
		}
	}
}

// TestCrashKeepsWhatWasAnswered crashes the file system while transactions run. What comes back
// must be the state after the last answered one, or after the one that was under way.
func TestCrashKeepsWhatWasAnswered(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	fs := vfs.NewCrashableMem()
	l := openLocal(t, fs)
	m := &model{kvs: map[string]KeyValue{}}
	for range 60 {
		for range rng.IntN(5) {
			txn := randomTxn(rng, m)
			m.txn(txn)
			if _, err := l.Txn(t.Context(), txn); err != nil {
				t.Fatal(err)
			}
		}
		before, after := m.clone(), m.clone()
		txn := randomTxn(rng, m)
		after.txn(txn)
		var crashed *vfs.MemFS
		var wg sync.WaitGroup
		wg.Go(func() {
			crashed = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rand.New(rand.NewPCG(seed, 3))})
		})
		if _, err := l.Txn(t.Context(), txn); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		m.txn(txn)
		again := openLocal(t, crashed)
		got := state(t, again)
		if !sameKVs(got.prefix(""), before.prefix("")) && !sameKVs(got.prefix(""), after.prefix("")) {
			t.Fatalf("after the crash: %v\nwant %v\nor   %v", got, before, after)
		}
		again.Close()
	}
}

func TestWatch(t *testing.T) {
	l := openLocal(t, vfs.NewMem())
	w := l.Watch("fs/", 0)
	put := func(ops ...Op) {
		t.Helper()
		if _, err := l.Txn(t.Context(), Txn{Then: ops}); err != nil {
			t.Fatal(err)
		}
	}
	put(Put("fs/1", []byte("a")), Put("other", nil))
	put(Delete("fs/1"))
	changes, err := w.Next(t.Context())
	if err != nil || len(changes) != 2 || string(changes[0].Value) != "a" || !changes[1].Deleted || changes[1].ModRevision != 2 {
		t.Fatalf("%+v, %v", changes, err)
	}
	waiting := make(chan error, 1)
	go func() {
		changes, err := w.Next(t.Context())
		if err == nil && (len(changes) != 1 || changes[0].Key != "fs/2") {
			err = fmt.Errorf("%+v", changes)
		}
		waiting <- err
	}()
	put(Put("not watched", nil))
	put(Put("fs/2", nil))
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("nothing happened: %v", err)
	}
	go func() { _, err := w.Next(t.Context()); waiting <- err }()
	l.Close()
	if err := <-waiting; !errors.Is(err, ErrClosed) {
		t.Fatalf("store closed: %v", err)
	}
}

func TestWatchThatFallsBehind(t *testing.T) {
	fs := vfs.NewMem()
	l := openLocal(t, fs)
	w := l.Watch("", 0)
	for range maxHistory/100 + 1 {
		var ops []Op
		for i := range 100 {
			ops = append(ops, Put(fmt.Sprint(i), nil))
		}
		if _, err := l.Txn(t.Context(), Txn{Then: ops}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Next(t.Context()); !errors.Is(err, ErrCompacted) {
		t.Fatalf("%v; want ErrCompacted", err)
	}
	revision := l.revision
	l.Close()
	l = openLocal(t, fs)
	if _, err := l.Watch("", revision-1).Next(t.Context()); !errors.Is(err, ErrCompacted) {
		t.Fatalf("from before the restart: %v; want ErrCompacted", err)
	}
}

func TestTxnLimits(t *testing.T) {
	l := openLocal(t, vfs.NewMem())
	many := make([]Op, MaxTxnOps+1)
	for i := range many {
		many[i] = Put(fmt.Sprint(i), nil)
	}
	for name, txn := range map[string]Txn{
		"no key":       {Then: []Op{Put("", nil)}},
		"long key":     {Then: []Op{Put(strings.Repeat("k", MaxKeyBytes+1), nil)}},
		"long value":   {Else: []Op{Put("k", make([]byte, MaxValueBytes+1))}},
		"twice":        {Then: []Op{Put("k", nil), Delete("k")}},
		"many":         {Then: many},
		"many compare": {If: make([]Compare, MaxTxnOps+1)},
	} {
		if _, err := l.Txn(t.Context(), txn); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewerFormatIsRefusedUnchanged(t *testing.T) {
	fs := vfs.NewMem()
	l := openLocal(t, fs)
	if err := l.db.Set([]byte(formatKey), []byte{0, 0, 0, localFormat + 1}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := OpenLocal(LocalOptions{FS: fs, Dir: "catalog"}); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("newer records: %v", err)
	}
	fs = vfs.NewMem()
	db, err := pebble.Open("catalog", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: quietLogger{}})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	before := fs.String()
	if _, err := OpenLocal(LocalOptions{FS: fs, Dir: "catalog"}); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("newer store: %v", err)
	}
	if fs.String() != before {
		t.Error("a refused store was written to")
	}
}

// TestFailureIsFinal makes every write fail from some point on: the Txn must not be acknowledged,
// and the store must say that it failed, once, instead of ending the process.
func TestFailureIsFinal(t *testing.T) {
	broken := errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileWrite {
			return errorfs.ErrInjected
		}
		return nil
	})}
	mem := vfs.NewMem()
	failures := make(chan error, 10)
	l, err := OpenLocal(LocalOptions{FS: errorfs.Wrap(mem, &broken), Dir: "catalog", OnFailure: func(err error) { failures <- err }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Txn(t.Context(), Txn{Then: []Op{Put("kept", nil)}}); err != nil {
		t.Fatal(err)
	}
	broken.On()
	if _, err := l.Txn(t.Context(), Txn{Then: []Op{Put("lost", nil)}}); !errors.Is(err, ErrFailed) {
		t.Fatalf("a write that failed: %v", err)
	}
	if _, _, _, err := l.Get(t.Context(), "kept"); !errors.Is(err, ErrFailed) {
		t.Fatalf("after the failure: %v", err)
	}
	if err := <-failures; !errors.Is(err, ErrFailed) || len(failures) != 0 {
		t.Fatalf("told %v and %d more", err, len(failures))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(encode(&KeyValue{Value: []byte("v"), CreateRevision: 1, ModRevision: 2, Version: 2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		kv, err := decode("k", b)
		if err == nil && !bytes.Equal(encode(&kv), b) {
			t.Fatalf("%x decodes to what encodes otherwise", b)
		}
	})
}
