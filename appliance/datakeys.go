package appliance

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/xtsengine/cryptfs"
	"github.com/nfseal/nfseal/xtsengine/keyring"
	"github.com/nfseal/nfseal/xtsengine/mac"
	"github.com/nfseal/nfseal/xtsengine/volume"
	"github.com/nfseal/nfseal/xtsengine/xts"
)

// The states of data keys. A file system has current ones, and while it is given those, retired ones too.
const (
	keysCurrent = "current"
	keysRetired = "retired"
)

// dataKeys are the two data keys with a number, counted from 1, wrapped. The file says by its list how far a
// change of keys is: one pair, two of them with the retired one first, or one again, of a higher number.
type dataKeys struct {
	Number      int    `json:"number"`
	State       string `json:"state"`
	MetadataKey []byte `json:"metadataKey"`
	DataKey     []byte `json:"dataKey"`
}

// current are those that everything new is under.
func (k *keysFile) current() dataKeys {
	if n := len(k.DataKeys); n > 0 {
		return k.DataKeys[n-1]
	}
	return dataKeys{1, keysCurrent, k.MetadataKey, k.DataKey}
}

// retired are those that something may still be under; nil if there are none.
func (k *keysFile) retired() *dataKeys {
	if len(k.DataKeys) < 2 {
		return nil
	}
	return &k.DataKeys[0]
}

// sound says whether the keys are what the format wants.
func (k *keysFile) sound() bool {
	if k.Format < listedKeysFormat {
		return len(k.DataKeys) == 0 && len(k.HandleKey) == 0 && len(k.MetadataKey) > 0 && len(k.DataKey) > 0 &&
			(k.Key == "") == (k.Format == rootKeysFormat)
	}
	n := len(k.DataKeys)
	if n < 1 || n > 2 || len(k.HandleKey) == 0 || len(k.MetadataKey) > 0 || len(k.DataKey) > 0 {
		return false
	}
	for i, d := range k.DataKeys {
		want := keysRetired
		if i == n-1 {
			want = keysCurrent
		}
		if d.State != want || d.Number < 1 || len(d.MetadataKey) == 0 || len(d.DataKey) == 0 ||
			(i > 0 && d.Number != k.DataKeys[i-1].Number+1) {
			return false
		}
	}
	return true
}

// keyPair is two data keys in memory.
type keyPair struct {
	number   int
	metadata *keyring.DataKey
	data     *keyring.DataKey
}

// unlocked is a file system's keys in memory.
type unlocked struct {
	keyPair
	retired *keyPair // nil if there are none
	handle  nfs4.HandleKey
}

// unlock opens all keys of k.
func (w *wrapping) unlock(ctx context.Context, k *keysFile) (*unlocked, error) {
	keys := &unlocked{}
	err := w.unlockInto(ctx, k, keys)
	if err != nil {
		return nil, errors.Join(err, keys.Close())
	}
	return keys, nil
}

func (w *wrapping) unlockInto(ctx context.Context, k *keysFile, keys *unlocked) error {
	current, retired := k.current(), k.retired()
	p, err := w.unlockPair(ctx, k, &current)
	if err != nil {
		return err
	}
	keys.keyPair = *p
	if retired != nil {
		if keys.retired, err = w.unlockPair(ctx, k, retired); err != nil {
			return err
		}
	}
	if len(k.HandleKey) == 0 {
		keys.handle, err = p.deriveHandleKey(k.ID)
	} else {
		keys.handle, err = p.openHandleKey(k.ID, k.HandleKey)
	}
	return err
}

// unlockPair opens two keys of k.
func (w *wrapping) unlockPair(ctx context.Context, k *keysFile, d *dataKeys) (*keyPair, error) {
	unwrapper := w.unwrapper(k)
	metadata, err := unwrapper.Unwrap(ctx, d.MetadataKey, metadataContext(k.ID))
	if err != nil {
		return nil, fmt.Errorf("metadata key of %s: %w", k.ID, err)
	}
	data, err := unwrapper.Unwrap(ctx, d.DataKey, keyContext(k.ID))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("data key of %s: %w", k.ID, err), metadata.Close())
	}
	return &keyPair{d.Number, metadata, data}, nil
}

// unlockMetadata opens the metadata keys of k, and the files below them. The caller calls close.
func (w *wrapping) unlockMetadata(ctx context.Context, k *keysFile) (meta *cryptfs.FS, close func() error, err error) {
	var keys []*keyring.DataKey
	close = func() error {
		var errs []error
		for _, key := range keys {
			errs = append(errs, key.Close())
		}
		return errors.Join(errs...)
	}
	list := []dataKeys{k.current()}
	if retired := k.retired(); retired != nil {
		list = append(list, *retired)
	}
	for _, d := range list {
		key, err := w.unwrapper(k).Unwrap(ctx, d.MetadataKey, metadataContext(k.ID))
		if err != nil {
			return nil, nil, errors.Join(err, close())
		}
		keys = append(keys, key)
	}
	if len(keys) == 1 {
		meta, err = cryptfs.New(vfs.Default, keys[0])
	} else {
		meta, err = cryptfs.NewRekeyed(vfs.Default, keys[0], keys[1])
	}
	if err != nil {
		return nil, nil, errors.Join(err, close())
	}
	return meta, close, nil
}

// openMeta returns the metadata's files below the keys.
func (u *unlocked) openMeta() (*cryptfs.FS, error) {
	if u.retired == nil {
		return cryptfs.New(vfs.Default, u.metadata)
	}
	return cryptfs.NewRekeyed(vfs.Default, u.metadata, u.retired.metadata)
}

// Close wipes all keys.
func (u *unlocked) Close() error {
	err := u.keyPair.Close()
	if u.retired != nil {
		err = errors.Join(err, u.retired.Close())
	}
	return err
}

// Close wipes both keys.
func (p *keyPair) Close() error {
	var errs []error
	for _, key := range []*keyring.DataKey{p.metadata, p.data} {
		if key != nil {
			errs = append(errs, key.Close())
		}
	}
	return errors.Join(errs...)
}

// deriveHandleKey derives the key that authenticates file handles (HKDF-SHA-256 of the metadata key) from
// the first metadata key of a file system.
func (p *keyPair) deriveHandleKey(id string) (nfs4.HandleKey, error) {
	return deriveKey(p.metadata, "nfseal file handles v1 "+id, nfs4.HandleKeyBytes)
}

func deriveKey(from *keyring.DataKey, info string, length int) ([]byte, error) {
	var key []byte
	var err error
	useErr := from.Use(func(secret []byte) { key, err = hkdf.Key(sha256.New, secret, nil, info, length) })
	return key, errors.Join(useErr, err)
}

// handleSeal is what keeps the key of file handles, which clients rely on for ever, under a metadata key that
// is not the first one: AES-256-GCM (NIST SP 800-38D) under a key derived from that.
func (p *keyPair) handleSeal(id string) (cipher.AEAD, error) {
	key, err := deriveKey(p.metadata, "nfseal key of file handles v1 "+id, 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("appliance: %w", err)
	}
	return cipher.NewGCM(block)
}

// sealHandleKey seals it: a random nonce of 12 bytes, the ciphertext, the tag.
func (p *keyPair) sealHandleKey(id string, key nfs4.HandleKey) ([]byte, error) {
	seal, err := p.handleSeal(id)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, seal.NonceSize())
	rand.Read(nonce) // never fails (crypto/rand)
	return seal.Seal(nonce, nonce, key, []byte(id)), nil
}

func (p *keyPair) openHandleKey(id string, sealed []byte) (nfs4.HandleKey, error) {
	seal, err := p.handleSeal(id)
	if err != nil {
		return nil, err
	}
	if len(sealed) < seal.NonceSize() {
		return nil, fmt.Errorf("appliance: key of file handles of %s is damaged", id)
	}
	n := seal.NonceSize()
	key, err := seal.Open(nil, sealed[:n], sealed[n:], []byte(id))
	if err != nil || len(key) != nfs4.HandleKeyBytes {
		return nil, fmt.Errorf("appliance: key of file handles of %s is damaged", id)
	}
	return key, nil
}

// contentKeys is what a data key makes of it: the cipher of blocks and the key of their tags.
type contentKeys struct {
	cipher *xts.Cipher
	tags   *mac.Key
}

// contentKeys derives them; the caller closes them.
func (p *keyPair) contentKeys(id string) (*contentKeys, error) {
	c := &contentKeys{}
	var err error
	useErr := p.data.Use(func(key []byte) { c.cipher, err = xts.New(key) })
	if err = errors.Join(useErr, err); err != nil {
		return nil, err
	}
	if c.tags, err = p.tagKey(id); err != nil {
		c.cipher.Close()
		return nil, err
	}
	return c, nil
}

// Close wipes them.
func (c *contentKeys) Close() {
	c.cipher.Close()
	c.tags.Close()
}

// space is what a space of that number is opened with.
func (c *contentKeys) space(id string, number int) volume.SpaceKey {
	return volume.SpaceKey{Owner: spaceOf(id, number), Cipher: c.cipher, Tags: c.tags}
}

// tagKey derives the key of the blocks' tags (HKDF-SHA-256 of the data key). The caller closes it.
func (p *keyPair) tagKey(id string) (*mac.Key, error) {
	derived, err := deriveKey(p.data, "nfseal block tags v1 "+id, mac.KeyBytes)
	if err != nil {
		return nil, err
	}
	defer clear(derived)
	return mac.New(derived)
}

// spaceOf names the file system's space on its unit's volume that is under data keys of a number. There are
// two: keys are retired only when nothing is left under those before.
func spaceOf(id string, number int) volume.SpaceID {
	name := "nfseal space v1 " + id
	if number%2 == 0 {
		name += " even"
	}
	sum := sha256.Sum256([]byte(name))
	return volume.SpaceID(sum[:16])
}

// spacesOf names both.
func spacesOf(id string) []volume.SpaceID { return []volume.SpaceID{spaceOf(id, 1), spaceOf(id, 2)} }
