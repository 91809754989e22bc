package nfs4

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// A file handle is 48 bytes; numbers are big endian:
//
//	version (1) | zero (3) | fsid major (8) | fsid minor (8) | inode (8) | generation (4) | mac (16)
//
// The mac is one AES-256 block under the file system's handle key, of inode, generation and the four
// bytes "nfh1": a permutation, so it is unforgeable without the key for all 2^96 file identities, and
// what else is in the handle is compared with what must stand there.
const (
	handleVersion = 1
	handleBytes   = 48
	handleMACAt   = 32
	handleInodeAt = 20
	handleGenAt   = 28
)

// handle is a file handle, with room for the block that is computed over it.
type handle struct {
	bytes [handleBytes]byte
	block [aes.BlockSize]byte
}

// sealer makes and checks file handles. It may be used by many goroutines.
type sealer struct {
	cipher cipher.Block
	prefix [handleInodeAt]byte
}

func newSealer(key HandleKey, fsid FSID) (*sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	s := &sealer{cipher: block}
	s.prefix[0] = handleVersion
	binary.BigEndian.PutUint64(s.prefix[4:], fsid.Major)
	binary.BigEndian.PutUint64(s.prefix[12:], fsid.Minor)
	return s, nil
}

// mac computes the authenticator of id into h.block.
func (s *sealer) mac(h *handle, id vfs.FileID) {
	binary.BigEndian.PutUint64(h.block[:], id.Inode)
	binary.BigEndian.PutUint32(h.block[8:], id.Generation)
	copy(h.block[12:], "nfh1")
	s.cipher.Encrypt(h.block[:], h.block[:])
}

// seal makes the handle of id in h, which must be on the heap to stay free of allocations.
func (s *sealer) seal(h *handle, id vfs.FileID) []byte {
	s.mac(h, id)
	copy(h.bytes[:], s.prefix[:])
	binary.BigEndian.PutUint64(h.bytes[handleInodeAt:], id.Inode)
	binary.BigEndian.PutUint32(h.bytes[handleGenAt:], id.Generation)
	copy(h.bytes[handleMACAt:], h.block[:])
	return h.bytes[:]
}

// open checks a handle that a client sent: NFS4ERR_BADHANDLE for one that was never made here,
// NFS4ERR_STALE for one of another file system. Whether the file still exists is not looked at.
func (s *sealer) open(h *handle, sent []byte) (vfs.FileID, wire.Status) {
	switch {
	case len(sent) != handleBytes || [4]byte(sent) != [4]byte{handleVersion}:
		return vfs.FileID{}, wire.NFS4ERR_BADHANDLE
	case [16]byte(sent[4:]) != [16]byte(s.prefix[4:]):
		return vfs.FileID{}, wire.NFS4ERR_STALE
	}
	id := vfs.FileID{
		Inode:      binary.BigEndian.Uint64(sent[handleInodeAt:]),
		Generation: binary.BigEndian.Uint32(sent[handleGenAt:]),
	}
	s.mac(h, id)
	if subtle.ConstantTimeCompare(h.block[:], sent[handleMACAt:]) != 1 {
		return vfs.FileID{}, wire.NFS4ERR_BADHANDLE
	}
	return id, wire.NFS4_OK
}
