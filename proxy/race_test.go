//go:build race

package proxy_test

// raceEnabled: pools lose what they are given at random, and memory says nothing.
const raceEnabled = true
