package tlsrecord

import (
	"errors"
	"fmt"
	"io"
)

// Content types (RFC 5246 §6.2.1).
const (
	TypeAlert       = 21
	TypeHandshake   = 22
	TypeApplication = 23
)

// Alert is an AlertDescription (RFC 5246 §7.2). As an error it is one that was received, and fatal.
type Alert uint8

// The alerts that are sent or looked at here.
const (
	AlertCloseNotify       Alert = 0
	AlertUnexpectedMessage Alert = 10
	AlertBadRecordMAC      Alert = 20
	AlertRecordOverflow    Alert = 22
	AlertDecodeError       Alert = 50
	AlertProtocolVersion   Alert = 70
	AlertInternalError     Alert = 80
	AlertUserCanceled      Alert = 90
	AlertNoRenegotiation   Alert = 100
)

const (
	levelWarning = 1
	levelFatal   = 2
	alertBytes   = 2
)

// Error implements error.
func (a Alert) Error() string { return fmt.Sprintf("tlsrecord: the peer sent alert %d", uint8(a)) }

// Message is the alert as it is sent: its level, and what it is.
func (a Alert) Message() [alertBytes]byte { return [alertBytes]byte{a.level(), byte(a)} }

// level is how severe an alert is when it is sent.
func (a Alert) level() byte {
	if a == AlertCloseNotify || a == AlertNoRenegotiation {
		return levelWarning
	}
	return levelFatal
}

// Why a session ended.
var (
	// ErrTruncated: the connection ended without close_notify.
	ErrTruncated = fmt.Errorf("tlsrecord: connection ended without close_notify: %w", io.ErrUnexpectedEOF)
	// ErrBadRecord: a record is not genuine, or damaged.
	ErrBadRecord = errors.New("tlsrecord: bad record MAC")
	// ErrOverflow: a record is longer than it may be.
	ErrOverflow = errors.New("tlsrecord: record too long")
	// ErrUnexpected: a record has no business in a session under way.
	ErrUnexpected = errors.New("tlsrecord: unexpected record")
	// ErrRenegotiation: the peer asked for a new handshake.
	ErrRenegotiation = errors.New("tlsrecord: the peer asked to renegotiate")
	// ErrVersion: a record names another version of the protocol.
	ErrVersion = errors.New("tlsrecord: record of another protocol version")
	// ErrHandshake: a handshake message of TLS 1.3 that came after the handshake is malformed.
	ErrHandshake = errors.New("tlsrecord: malformed handshake message")
	// ErrExhausted: all sequence numbers are used.
	ErrExhausted = errors.New("tlsrecord: no sequence number left")
	// ErrShut: a write after Close or CloseWrite.
	ErrShut = errors.New("tlsrecord: connection is shut down for writing")
)

// AlertError is what a received alert means to the reader: nil for one that changes nothing, io.EOF for
// close_notify, else the Alert, or that it is malformed. v13 says that the session is one of TLS 1.3,
// where levels mean nothing and all but two alerts are fatal (RFC 8446 §6).
func AlertError(plain []byte, v13 bool) error {
	if len(plain) != alertBytes || plain[0] != levelWarning && plain[0] != levelFatal {
		return errAlert
	}
	alert := Alert(plain[1])
	switch {
	case alert == AlertCloseNotify:
		return io.EOF
	case v13 && alert == AlertUserCanceled:
		return nil
	case v13 || plain[0] == levelFatal:
		return alert
	}
	return nil
}

// AlertFor is what the peer is told of err.
func AlertFor(err error) (alert Alert, ok bool) {
	switch err {
	case ErrBadRecord:
		return AlertBadRecordMAC, true
	case ErrOverflow:
		return AlertRecordOverflow, true
	case ErrHandshake:
		return AlertDecodeError, true
	case ErrUnexpected:
		return AlertUnexpectedMessage, true
	case ErrRenegotiation:
		return AlertNoRenegotiation, true
	case ErrVersion:
		return AlertProtocolVersion, true
	case errAlert:
		return AlertDecodeError, true
	}
	return 0, false
}

var errAlert = errors.New("tlsrecord: malformed alert")
