package ktls

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/tlsrecord"
)

// attach gives a socket the kernel's TLS. Nothing is encrypted by that alone.
func attach(socket syscall.RawConn) error {
	return control(socket, func(fd int) error {
		return unix.SetsockoptString(fd, unix.SOL_TCP, unix.TCP_ULP, "tls")
	})
}

// setKeys has the socket protect one direction, optTX or optRX, from the next record on.
func setKeys(socket syscall.RawConn, direction int, t *tlsrecord.Traffic) error {
	var info [cryptoBytes]byte
	defer clear(info[:])
	putCrypto(&info, t)
	return control(socket, func(fd int) error {
		return unix.SetsockoptString(fd, unix.SOL_TLS, direction, unsafe.String(&info[0], len(info)))
	})
}

// putCrypto makes a struct tls12_crypto_info_aes_gcm_256.
func putCrypto(info *[cryptoBytes]byte, t *tlsrecord.Traffic) {
	version := uint16(tls.VersionTLS12)
	iv := t.IV()
	if t.IsTLS13() {
		version = tls.VersionTLS13
		copy(info[4:12], iv[saltBytes:])
	} else {
		binary.BigEndian.PutUint64(info[4:], t.Seq()) // the explicit nonce of the next record
	}
	binary.NativeEndian.PutUint16(info[0:], version)
	binary.NativeEndian.PutUint16(info[2:], cipherAES256GCM)
	copy(info[12:44], t.Key())
	copy(info[44:48], iv[:saltBytes])
	binary.BigEndian.PutUint64(info[48:], t.Seq())
}

// expectNoPad tells the kernel that the peer pads no records of TLS 1.3, so that it decrypts to where data is
// read to at once; a record that is padded costs a second go. Kernels that don't know it do without.
func expectNoPad(socket syscall.RawConn) {
	_ = control(socket, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_TLS, optExpectNoPad, 1) })
}

// takeError takes the error that a socket keeps, which would else be the next write's.
func takeError(socket syscall.RawConn) {
	_ = control(socket, func(fd int) error {
		_, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		return err
	})
}

func control(socket syscall.RawConn, f func(fd int) error) error {
	var err error
	return errors.Join(socket.Control(func(fd uintptr) { err = f(int(fd)) }), err)
}

// typeControl is the control message that gives a record its type.
func typeControl(kind byte) []byte {
	b := make([]byte, unix.CmsgSpace(1))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.SOL_TLS, cmsgSetType
	h.SetLen(unix.CmsgLen(1))
	b[unix.CmsgLen(0)] = kind
	return b
}

// typeOf finds a record's type among the control messages of a read, of which there is one.
func typeOf(b []byte) (kind byte, ok bool) {
	if len(b) < unix.CmsgLen(1) {
		return 0, false
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	if h.Level != unix.SOL_TLS || h.Type != cmsgGetType {
		return 0, false
	}
	return b[unix.CmsgLen(0)], true
}
