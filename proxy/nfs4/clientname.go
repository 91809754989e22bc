package nfs4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"strings"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// What the Service knows a client by is
//
//	identity of its connection | namePlain | what it calls itself
//	identity of its connection | nameHash | SHA-256 of that, where it would be too long
//
// or, without an identity, what it calls itself, unless that could be mistaken for one of these or for a name of minor version 0. An
// identity has no control characters. So two mounts of one machine, which have the same name, are two clients if their connections
// have two identities, and none can choose another one's name.
const (
	namePlain = 0
	nameHash  = 1
)

// clientOwner is what the Service knows the client by that calls itself owner.
func (b *Binding) clientOwner(owner []byte) []byte {
	identity := b.conn.Identity
	switch {
	case identity == "" && !bytes.ContainsAny(owner, "\x00\x01") && !bytes.HasPrefix(owner, []byte(state.OldOwnerPrefix)):
		return owner
	case len(identity)+1+len(owner) > maxIdentityBytes:
		sum := sha256.Sum256(owner)
		return append(append([]byte(identity), nameHash), sum[:]...)
	}
	return append(append([]byte(identity), namePlain), owner...)
}

// renamed is the owner of a record from when a space stood behind the identity, as it is called now.
func renamed(r *state.Record) (owner string, ok bool) {
	name, old := strings.CutPrefix(r.Owner, state.OldOwnerPrefix)
	identity := r.Principal.Identity
	rest, found := strings.CutPrefix(name, identity+" ")
	if identity == "" || !found {
		return "", false
	}
	owner = identity + string(rune(namePlain)) + rest
	if old {
		owner = state.OldOwnerPrefix + owner
	}
	return owner, true
}

// renameRecords gives the records of known clients that are named as they were once their names of now.
func renameRecords(fs vfs.FileSystem, known []state.Record) error {
	ctx := context.Background()
	for i := range known {
		r := &known[i]
		was := r.Owner
		owner, ok := renamed(r)
		if !ok {
			continue
		}
		r.Owner = owner
		if err := fs.PutClientRecord(ctx, []byte(owner), r.Value()); err != nil {
			return err
		}
		if err := fs.DeleteClientRecord(ctx, []byte(was)); err != nil {
			return err
		}
	}
	return nil
}
