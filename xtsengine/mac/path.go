package mac

import "sync"

// path is one implementation of NH.
type path uint8

const (
	pathGeneric path = iota
	pathAVX2         // 32 bytes at a time
	pathAVX512       // 64 bytes at a time
	pathCount
)

// String names the path in tests and reports.
func (p path) String() string {
	return [pathCount]string{"generic", "AVX2", "AVX-512"}[p]
}

// bestPath returns the fastest path that this processor has and gets right.
var bestPath = sync.OnceValue(func() path {
	for p := pathCount - 1; p > pathGeneric; p-- {
		if available(p) && selfTest(p) {
			return p
		}
	}
	return pathGeneric
})

// selfTest compares path p with the generic one. It is there for emulators, which announce
// instructions that they do not get right: with wrong tags, nothing could be read elsewhere.
func selfTest(p path) bool {
	var key [nhKeyBytes]byte
	var piece [pieceBytes]byte
	for i := range key {
		key[i] = byte(i*i>>3 + i*151)
	}
	for i := range piece {
		piece[i] = byte(i*i>>5 + i*29)
	}
	for _, n := range []int{BlockUnitBytes, 3 * BlockUnitBytes, pieceBytes} {
		var want, got [passes]uint64
		nhGeneric(&want, &key, piece[:n])
		nh(p, &got, &key, piece[:n])
		if got != want {
			return false
		}
	}
	return sameFour(p, &key)
}

// sameFour compares four blocks side by side with each by itself.
func sameFour(p path, key *[nhKeyBytes]byte) bool {
	var blocks [fourBlocks * pieceBytes]byte
	for i := range blocks {
		blocks[i] = byte(i*i>>7 + i*31)
	}
	var want [passes]uint64
	var got [fourBlocks * passes]uint64
	for _, n := range []int{BlockUnitBytes, 3 * BlockUnitBytes, pieceBytes} {
		if !nhFour(p, &got, key, blocks[:fourBlocks*n]) {
			return true
		}
		for i := range fourBlocks {
			nhGeneric(&want, key, blocks[i*n:(i+1)*n])
			if [passes]uint64(got[i*passes:]) != want {
				return false
			}
		}
	}
	return true
}
