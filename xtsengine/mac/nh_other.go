//go:build !amd64 || purego

package mac

func available(p path) bool { return p == pathGeneric }

func nh(_ path, sum *[passes]uint64, key *[nhKeyBytes]byte, piece []byte) {
	nhGeneric(sum, key, piece)
}

// nhFour says that there is no way to do several blocks side by side.
func nhFour(path, *[fourBlocks * passes]uint64, *[nhKeyBytes]byte, []byte) bool { return false }
