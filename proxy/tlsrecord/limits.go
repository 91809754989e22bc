package tlsrecord

import "time"

// What the standard fixes.
const (
	// MaxPlaintextBytes is the most data of one record (RFC 5246 §6.2.1, RFC 8446 §5.1).
	MaxPlaintextBytes = 1 << 14

	headerBytes   = 5
	explicitBytes = 8  // of the nonce (RFC 5288 §3); none in TLS 1.3
	typeBytes     = 1  // behind the data (RFC 8446 §5.2)
	tagBytes      = 16 // of AES-GCM
	saltBytes     = 4
	keyBytes      = 32
	nonceBytes    = saltBytes + explicitBytes
	extraBytes    = 13 // the additional data
	randomBytes   = 32 // of ClientHello and ServerHello
	masterBytes   = 48
	secretBytes   = 48 // of traffic, with SHA-384
	version       = 0x0303

	// overheadBytes is the most that a record has beside its data when it is sent: TLS 1.2's.
	overheadBytes = headerBytes + explicitBytes + tagBytes
	// max12Bytes is the longest record of TLS 1.2 with AES-GCM, maxRecordBytes that of TLS 1.3, whose
	// padding may take it further (RFC 8446 §5.2).
	max12Bytes     = MaxPlaintextBytes + overheadBytes
	maxRecordBytes = headerBytes + MaxPlaintextBytes + 256

	// UpdateRecords is after how many records the keys of TLS 1.3 are changed (RFC 8446 §5.5: 2^24.5).
	UpdateRecords = 1 << 24
)

// What we chose.
const (
	// largeRecords is how many full records are received or sent at once when there is much, and largeBytes holds them.
	largeRecords = 16
	largeBytes   = largeRecords * max12Bytes
	// maxPieces is how many records' data is passed on at once.
	maxPieces = 64
	// keepBytes is how much of such memory stays in huge pages.
	keepBytes = 16 << 20
	// smallBytes holds one record: what a connection keeps while the rest of one is awaited, and what
	// it takes to send a small answer.
	smallBytes = maxRecordBytes
	// MaxUseless is how many records in a row may carry nothing.
	MaxUseless = 16
	// AlertTimeout is how long an alert may take to go out.
	AlertTimeout = 5 * time.Second
)
