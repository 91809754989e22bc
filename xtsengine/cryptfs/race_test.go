//go:build race

package cryptfs

// raceEnabled: the race detector makes sync.Pool forget at random.
const raceEnabled = true
