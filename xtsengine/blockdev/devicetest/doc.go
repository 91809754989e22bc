// Package devicetest is the contract of blockdev.Device as a test suite that every device passes.
// It says nothing about crashes: memdev models those, and a real device can't be asked.
package devicetest
