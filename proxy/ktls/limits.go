package ktls

import "time"

// What Linux has in include/uapi/linux/tls.h; golang.org/x/sys/unix has TCP_ULP and SOL_TLS.
const (
	optTX          = 1 // TLS_TX
	optRX          = 2 // TLS_RX
	optExpectNoPad = 4 // TLS_RX_EXPECT_NO_PAD, Linux 6.0

	cmsgSetType = 1 // TLS_SET_RECORD_TYPE
	cmsgGetType = 2 // TLS_GET_RECORD_TYPE

	cipherAES256GCM = 52 // TLS_CIPHER_AES_GCM_256
	// cryptoBytes is struct tls12_crypto_info_aes_gcm_256:
	// version 2 | cipher 2 | iv 8 | key 32 | salt 4 | record sequence number 8
	cryptoBytes = 56

	saltBytes  = 4
	nonceBytes = 12
	keyBytes   = 32
)

// What we chose.
const (
	// bufferBytes is what a small read takes from the kernel at once: four records.
	bufferBytes = 64 << 10
	// pipeSlots is how many pieces of memory a pipe for splice(2) holds: 1 MiB of pages of 4 KiB, which is what Linux lets
	// everybody have. One record is recordSlots of them at most (MAX_SKB_FRAGS).
	pipeSlots   = 256
	recordSlots = 17
	// controlBytes holds the control message with a record's type.
	controlBytes = 32
	// probeTimeout bounds the connection of Probe.
	probeTimeout = 5 * time.Second
)
