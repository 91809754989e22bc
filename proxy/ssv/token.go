package ssv

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// micOf is the HMAC of a message in a MIC: over its XDR and that of the version.
func (s Suite) micOf(key []byte, version uint32, message []byte) []byte {
	var head [8]byte
	var pad [3]byte
	binary.BigEndian.PutUint32(head[:], version)
	binary.BigEndian.PutUint32(head[4:], uint32(len(message)))
	return s.hmac(key, head[:], message, pad[:-len(message)&3])
}

// AppendMIC appends the MIC of message (GSS_GetMIC), MICBytes long. ok is false before there is an SSV.
func (c *Context) AppendMIC(dst, message []byte) (token []byte, ok bool) {
	version, k := c.current()
	if k == nil {
		return dst, false
	}
	sum := c.suite.micOf(k.mic[c.side], version, message)
	dst = binary.BigEndian.AppendUint32(dst, version)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(sum)))
	return append(dst, sum...), true
}

// MICBytes is the length of a MIC, a multiple of four.
func (c *Context) MICBytes() int { return 8 + c.suite.hash.bytes }

// VerifyMIC says whether token is the other side's MIC of message, under a version that is still good (GSS_VerifyMIC).
func (c *Context) VerifyMIC(message, token []byte) bool {
	d := xdr.NewDecoder(token)
	version := d.Uint32()
	sum := d.Opaque(maxHashBytes)
	k := c.at(version)
	if d.Err() != nil || d.Remaining() != 0 || k == nil {
		return false
	}
	return hmac.Equal(sum, c.suite.micOf(k.mic[c.side.other()], version, message))
}

// What stands in front of the parts of a sealed message.
const (
	sealHeadBytes  = 4 + 4 + ivBytes + 4            // of the token, up to what is encrypted
	plainHeadBytes = 4 + confounderBytes + 4 + 4    // of that, up to the message
	sealedAt       = sealHeadBytes + plainHeadBytes // of the token, up to the message
)

// SealedBytes is the length of a message of n bytes when it is sealed, a multiple of four, and at which offset Seal wants it.
func (c *Context) SealedBytes(n int) (at, total int) {
	return sealedAt, sealHeadBytes + encryptedBytes(n) + 4 + c.suite.hash.bytes
}

// encryptedBytes is the length of what is encrypted of a message of n bytes.
func encryptedBytes(n int) int {
	const block = aes.BlockSize
	return (plainHeadBytes + (n+3)&^3 + 4 + block - 1) / block * block
}

// Seal makes a message of n bytes, which stands in token already, a sealed one in its place (GSS_Wrap). token is as long as
// SealedBytes says. It returns false before there is an SSV.
func (c *Context) Seal(token []byte, n int) bool {
	version, k := c.current()
	if k == nil {
		return false
	}
	put := binary.BigEndian.PutUint32
	put(token, version)
	put(token[4:], ivBytes)
	iv := token[8 : 8+ivBytes]
	_, _ = rand.Read(iv)
	put(token[8+ivBytes:], uint32(encryptedBytes(n)))

	plain := token[sealHeadBytes : sealHeadBytes+encryptedBytes(n)]
	put(plain, confounderBytes)
	_, _ = rand.Read(plain[4 : 4+confounderBytes])
	put(plain[4+confounderBytes:], version)
	put(plain[8+confounderBytes:], uint32(n))
	behind := plain[plainHeadBytes+n:]
	clear(behind)
	fill := behind[-n&3:]
	put(fill, uint32(len(fill)-4))

	sum := c.suite.hmac(k.mic[c.side], plain)
	rest := token[sealHeadBytes+len(plain):]
	put(rest, uint32(len(sum)))
	copy(rest[4:], sum)
	cipher.NewCBCEncrypter(c.suite.block(k.seal[c.side]), iv).CryptBlocks(plain, plain)
	return true
}

// Unseal decrypts the other side's token in its place and returns the message, which points into it (GSS_Unwrap).
func (c *Context) Unseal(token []byte) (message []byte, ok bool) {
	d := xdr.NewDecoder(token)
	version := d.Uint32()
	iv, encrypted, sum := d.Opaque(ivBytes), d.Opaque(len(token)), d.Opaque(maxHashBytes)
	k := c.at(version)
	if d.Err() != nil || d.Remaining() != 0 || k == nil || len(iv) != ivBytes || len(encrypted)%aes.BlockSize != 0 {
		return nil, false
	}
	cipher.NewCBCDecrypter(c.suite.block(k.seal[c.side.other()]), iv).CryptBlocks(encrypted, encrypted)
	if !hmac.Equal(sum, c.suite.hmac(k.mic[c.side.other()], encrypted)) {
		clear(encrypted)
		return nil, false
	}
	p := xdr.NewDecoder(encrypted)
	p.Opaque(len(encrypted)) // the confounder
	inner := p.Uint32()
	message = p.Opaque(len(encrypted))
	p.Opaque(len(encrypted)) // the pad
	return message, p.Err() == nil && p.Remaining() == 0 && inner == version
}

func (s Suite) block(key []byte) cipher.Block {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic("ssv: the key of a suite has a length that AES does not know")
	}
	return b
}
