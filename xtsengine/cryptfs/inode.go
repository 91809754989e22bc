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
	salt   fileSalt
	cipher *xts.Cipher
	// mu is held to write while data is written, and to read while data is read: an AES block is
	// read whole or not at all.
	mu   sync.RWMutex
	refs int // guarded by FS.mu
}

// acquire returns the inode of the file with this salt; release gives it back.
func (fs *FS) acquire(salt fileSalt) (*inode, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if n := fs.inodes[salt]; n != nil {
		n.refs++
		return n, nil
	}
	c, err := fileCipher(fs.key, &salt)
	if err != nil {
		return nil, err
	}
	n := &inode{salt: salt, cipher: c, refs: 1}
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
