package nfs4

import (
	"context"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// storeRecord makes r durable, so that its client can reclaim after a restart.
func (s *Service) storeRecord(ctx context.Context, id wire.ClientID, r *state.Record) error {
	s.records.Lock()
	defer s.records.Unlock()
	if err := s.fs.PutClientRecord(ctx, []byte(r.Owner), r.Value()); err != nil {
		return err
	}
	s.state.Recorded(id)
	return nil
}

// forget deletes the record of owner unless a client relies on it.
func (s *Service) forget(ctx context.Context, owner string) error {
	s.records.Lock()
	defer s.records.Unlock()
	if !s.state.Forgettable(owner) {
		return nil
	}
	return s.fs.DeleteClientRecord(ctx, []byte(owner))
}

// expire takes from a client whose lease has run out all that it holds. Its record goes first: were
// it there after a restart, the client could reclaim what somebody else has had meanwhile (RFC 8881
// §8.4.3). It says whether nothing is in the way any more; after false the client has come back or
// the record could not be deleted.
func (s *Service) expire(ctx context.Context, id wire.ClientID) bool {
	owner, ok := s.state.Condemn(id)
	if !ok {
		return false
	}
	if err := s.forget(ctx, owner); err != nil {
		s.storageError("DeleteClientRecord", err)
		return false
	}
	s.state.Bury(id)
	if s.opt.Events.ClientExpired != nil {
		s.opt.Events.ClientExpired(owner)
	}
	return true
}

// unblock calls try until no expired client is in its way.
func (c *compound) unblock(try func() (victim wire.ClientID, s wire.Status)) wire.Status {
	for range maxAttempts {
		victim, st := try()
		if victim == 0 {
			return st
		}
		if !c.s.expire(c.ctx, victim) {
			return wire.NFS4ERR_DELAY
		}
	}
	return wire.NFS4ERR_DELAY
}

// endGraceIfDue ends the recovery phase when its time is up or everybody is through: the records of
// those who did not come back are deleted, and then new opens and locks are granted.
func (s *Service) endGraceIfDue(ctx context.Context) {
	if !s.state.GraceDue() {
		return
	}
	lost := s.state.LostClients()
	for _, owner := range lost {
		if err := s.forget(ctx, owner); err != nil {
			s.storageError("DeleteClientRecord", err)
			return // the next tick tries again
		}
	}
	if !s.state.EndGrace() {
		return // somebody else was quicker
	}
	if s.opt.Events.GraceEnded != nil {
		s.opt.Events.GraceEnded(len(lost))
	}
	select {
	case s.kick <- struct{}{}:
	default:
	}
}
