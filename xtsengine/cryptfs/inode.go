package cryptfs

import (
	"crypto/hkdf"
	"crypto/sha512"
	"fmt"
	"sync"

	"github.com/nfseal/nfseal/xtsengine/keyring"
	"github.com/nfseal/nfseal/xtsengine/xts"
)

// Labels of the keys that come from the metadata key.
const (
	fileKeyInfo  = "nfseal cryptfs v1"
	checkKeyInfo = "nfseal cryptfs header v1"
)

// inode is what all handles of one file share, known by its salt: names come and go.
type inode struct {
	// mu is held to write while data is written, and to read while data is read: an AES block is
	// read whole or not at all. It guards cipher and handles too.
	mu      sync.RWMutex
	cipher  *xts.Cipher
	handles map[*file]struct{}

	// FS.mu guards these.
	salt fileSalt
	keys *fileKeys // what cipher comes from
	refs int
}

// add and forget keep the open handles of a file.
func (n *inode) add(f *file) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handles[f] = struct{}{}
}

func (n *inode) forget(f *file) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.handles, f)
}

// acquire returns the inode of the file with this salt; release gives it back.
func (fs *FS) acquire(salt fileSalt, keys *fileKeys) (*inode, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if n := fs.inodes[salt]; n != nil {
		n.refs++
		return n, nil
	}
	c, err := fileCipher(keys.key, &salt)
	if err != nil {
		return nil, err
	}
	n := &inode{salt: salt, keys: keys, cipher: c, handles: map[*file]struct{}{}, refs: 1}
	fs.inodes[salt] = n
	return n, nil
}

// release ends one use of n; the last one wipes its key.
func (fs *FS) release(n *inode) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n.refs--
	if n.refs > 0 {
		return
	}
	delete(fs.inodes, n.salt)
	n.cipher.Close()
}

// fileCipher derives a file's key.
func fileCipher(key *keyring.DataKey, salt *fileSalt) (*xts.Cipher, error) {
	b, err := derive(key, salt[:], fileKeyInfo, xts.KeyBytes)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	c, err := xts.New(b)
	if err != nil {
		return nil, fmt.Errorf("cryptfs: expand file key: %w", err)
	}
	return c, nil
}

// derive returns n bytes of HKDF-SHA512; the caller wipes them.
func derive(key *keyring.DataKey, salt []byte, info string, n int) ([]byte, error) {
	var out []byte
	var failed error
	err := key.Use(func(k []byte) { out, failed = hkdf.Key(sha512.New, k, salt, info, n) })
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("cryptfs: derive %q: %w", info, err)
	}
	return out, nil
}
