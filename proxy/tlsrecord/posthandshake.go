package tlsrecord

// Handshake messages of TLS 1.3 that may come after the handshake (RFC 8446 §4.6).
const (
	messageTicket    = 4
	messageKeyUpdate = 24

	messageHeaderBytes = 4
	keyUpdateBytes     = messageHeaderBytes + 1
	updateRequested    = 1
)

// KeyUpdate is the message that announces the sender's new keys and asks for none (RFC 8446 §4.6.3).
var KeyUpdate = [keyUpdateBytes]byte{messageKeyUpdate, 0, 0, 1, 0}

// ParsePostHandshake looks through a handshake record of TLS 1.3 in a session under way. It says whether
// the keys change behind it, and whether new ones are asked for. Tickets from a server are passed over:
// nothing is resumed here. A message that is not whole within its record is ErrUnexpected; nobody has a
// reason to send one.
func ParsePostHandshake(plain []byte, isServer bool) (update, asked bool, err error) {
	if len(plain) == 0 {
		return false, false, ErrUnexpected
	}
	for len(plain) > 0 {
		if update || len(plain) < messageHeaderBytes {
			return false, false, ErrUnexpected // nothing may follow under the old keys
		}
		n := messageHeaderBytes + int(plain[1])<<16 + int(plain[2])<<8 + int(plain[3])
		if len(plain) < n {
			return false, false, ErrUnexpected
		}
		switch {
		case plain[0] == messageTicket && !isServer:
		case plain[0] != messageKeyUpdate:
			return false, false, ErrUnexpected
		case n != len(KeyUpdate) || plain[4] > updateRequested:
			return false, false, ErrHandshake
		default:
			update, asked = true, plain[4] == updateRequested
		}
		plain = plain[n:]
	}
	return update, asked, nil
}
