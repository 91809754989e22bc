package mac

// Sizes, in bytes.
const (
	// KeyBytes is the size of a key.
	KeyBytes = 32
	// TagBytes is the size of a tag.
	TagBytes = 16
	// BlockUnitBytes divides the size of every block.
	BlockUnitBytes = 64
	// MaxBlockBytes is the largest block.
	MaxBlockBytes = 65536
)

// The construction's own sizes.
const (
	passes       = 4
	wordBytes    = 4  // of NH's message and key
	passBytes    = 16 // from one pass's key to the next
	pieceBytes   = 4096
	nhKeyBytes   = pieceBytes + (passes-1)*passBytes
	maxPieces    = MaxBlockBytes / pieceBytes
	headerWords  = 3 // block number, generation, size
	factorCount  = headerWords + maxPieces*passes
	factorBytes  = 16
	fourBlocks   = 4 // that are hashed side by side
	aesKeyBytes  = 32
	derivedBytes = nhKeyBytes + factorCount*factorBytes + aesKeyBytes
)

// derivationLabel separates what is derived here from everything else derived of the same key.
const derivationLabel = "nfseal block tag 1"
