//go:build !purego

package mac

import "golang.org/x/sys/cpu"

// available says whether this processor can take path p.
func available(p path) bool {
	switch p {
	case pathGeneric:
		return true
	case pathAVX2:
		return cpu.X86.HasAVX2
	case pathAVX512:
		return cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW
	}
	return false
}

// nh sets sum to the four passes of NH over one piece, a multiple of BlockUnitBytes and at most
// pieceBytes bytes long, but not empty.
func nh(p path, sum *[passes]uint64, key *[nhKeyBytes]byte, piece []byte) {
	switch p {
	case pathAVX512:
		nhAVX512(sum, &key[0], &piece[0], len(piece))
	case pathAVX2:
		nhAVX2(sum, &key[0], &piece[0], len(piece))
	default:
		nhGeneric(sum, key, piece)
	}
}

// nhFour sets sums to what nh gives for each of fourBlocks consecutive blocks, of up to pieceBytes bytes, and says
// whether the path has a way to do so.
func nhFour(p path, sums *[fourBlocks * passes]uint64, key *[nhKeyBytes]byte, blocks []byte) bool {
	if p != pathAVX512 {
		return false
	}
	nhFourAVX512(sums, &key[0], &blocks[0], len(blocks)/fourBlocks)
	return true
}

// Assembly. bytes is a positive multiple of BlockUnitBytes; key is passes−1 times passBytes longer.

//go:noescape
func nhAVX512(sum *[passes]uint64, key, piece *byte, bytes int)

// nhFourAVX512 does fourBlocks blocks of so many bytes each.
//
//go:noescape
func nhFourAVX512(sums *[fourBlocks * passes]uint64, key, blocks *byte, bytes int)

//go:noescape
func nhAVX2(sum *[passes]uint64, key, piece *byte, bytes int)
