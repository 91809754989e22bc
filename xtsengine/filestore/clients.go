package filestore

import (
	"bytes"
	"context"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// PutClientRecord implements vfs.ClientRecords.
func (s *Store) PutClientRecord(ctx context.Context, key, value []byte) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	if len(key) == 0 || len(key) > maxClientKey || len(value) > maxClientValue {
		return vfs.ErrInvalid
	}
	b := s.db.NewBatch()
	set(b, clientKey(key), value)
	return s.store(b)
}

// DeleteClientRecord implements vfs.ClientRecords.
func (s *Store) DeleteClientRecord(ctx context.Context, key []byte) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	b := s.db.NewBatch()
	del(b, clientKey(key))
	return s.store(b)
}

// EachClientRecord implements vfs.ClientRecords, in the order of the keys. visit may call the store.
func (s *Store) EachClientRecord(ctx context.Context, visit func(key, value []byte) error) error {
	records, err := s.clientRecords(ctx)
	if err != nil {
		return err
	}
	for _, r := range records {
		if err := visit(r.key, r.value); err != nil {
			return err
		}
	}
	return nil
}

type clientRecord struct{ key, value []byte }

func (s *Store) clientRecords(ctx context.Context) (records []clientRecord, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.life.RUnlock()
	err = s.scan([]byte{tableClient}, []byte{tableClient + 1}, func(key, value []byte) error {
		if len(key) < 2 || len(key) > 1+maxClientKey || len(value) > maxClientValue {
			return damaged("client record", 0)
		}
		records = append(records, clientRecord{bytes.Clone(key[1:]), bytes.Clone(value)})
		return nil
	})
	return records, err
}
