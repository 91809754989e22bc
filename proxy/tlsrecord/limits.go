package tlsrecord

import "time"

// What the standard fixes.
const (
	// MaxPlaintextBytes is the most data of one record (RFC 5246 §6.2.1).
	MaxPlaintextBytes = 1 << 14

	headerBytes   = 5
	explicitBytes = 8  // of the nonce (RFC 5288 §3)
	tagBytes      = 16 // of AES-GCM
	saltBytes     = 4
	keyBytes      = 32
	nonceBytes    = saltBytes + explicitBytes
	extraBytes    = 13 // the additional data
	randomBytes   = 32 // of ClientHello and ServerHello
	masterBytes   = 48
	version       = 0x0303

	// overheadBytes is what a record has beside its data.
	overheadBytes  = headerBytes + explicitBytes + tagBytes
	maxRecordBytes = MaxPlaintextBytes + overheadBytes
)

// What we chose.
const (
	// largeBytes is what is received or sent at once when there is much.
	largeBytes = 256 << 10
	// keepBytes is how much of such memory stays in huge pages.
	keepBytes = 16 << 20
	// smallBytes holds one record: what a connection keeps while the rest of one is awaited, and what
	// it takes to send a small answer.
	smallBytes = maxRecordBytes
	// maxUseless is how many records in a row may carry nothing.
	maxUseless = 16
	// alertTimeout is how long an alert may take to go out.
	alertTimeout = 5 * time.Second
)
