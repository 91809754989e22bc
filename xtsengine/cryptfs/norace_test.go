//go:build !race

package cryptfs

const raceEnabled = false
