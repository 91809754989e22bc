//go:build !amd64 || purego

package ceiling

func run(Width, int) bool { return false }
