//go:build !amd64 || purego

package mac

func available(p path) bool { return p == pathGeneric }

func nh(_ path, sum *[passes]uint64, key *[nhKeyBytes]byte, piece []byte) {
	nhGeneric(sum, key, piece)
}
