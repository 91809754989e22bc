package mac

import "encoding/binary"

// nhGeneric sets sum to the four passes of NH over one piece, a multiple of 16 and at most
// pieceBytes bytes long.
func nhGeneric(sum *[passes]uint64, key *[nhKeyBytes]byte, piece []byte) {
	var s0, s1, s2, s3 uint64
	for at := 0; at+8 <= len(piece); at += 8 {
		m := binary.LittleEndian.Uint64(piece[at:])
		k := key[at : at+56 : at+56]
		s0 += pair(m, k[0:8])
		s1 += pair(m, k[16:24])
		s2 += pair(m, k[32:40])
		s3 += pair(m, k[48:56])
	}
	*sum = [passes]uint64{s0, s1, s2, s3}
}

// pair is one product of NH: of the sums, modulo 2^32, of the two halves of m and of k.
func pair(m uint64, k []byte) uint64 {
	a := uint32(m) + binary.LittleEndian.Uint32(k)
	b := uint32(m>>32) + binary.LittleEndian.Uint32(k[4:])
	return uint64(a) * uint64(b)
}
