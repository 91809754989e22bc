//go:build race

package mac

// raceEnabled: the race detector makes sync.Pool forget at random.
const raceEnabled = true
