//go:build race

package xts

// raceEnabled: the race detector makes sync.Pool forget at random.
const raceEnabled = true
