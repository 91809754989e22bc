// Package durable replaces small files so that a crash leaves the old content or the new one, and
// says how to make a directory's entries durable. Every change is on stable storage on return.
package durable
