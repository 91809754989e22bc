//go:build !race

package proxy_test

// raceEnabled says whether the race detector watches.
const raceEnabled = false
