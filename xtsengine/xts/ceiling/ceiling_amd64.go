//go:build !purego

package ceiling

func run(w Width, rounds int) bool {
	switch w {
	case XMM:
		roundsXMM(rounds)
	case YMM:
		roundsYMM(rounds)
	case ZMM:
		roundsZMM(rounds)
	default:
		return false
	}
	return true
}

// Assembly: n rounds, at least one, on each of the registers.

//go:noescape
func roundsXMM(n int)

//go:noescape
func roundsYMM(n int)

//go:noescape
func roundsZMM(n int)
