//go:build !nullcipher

package filestore

import "github.com/nfseal/nfseal/xtsengine/xts"

// nullCipher is there under the build tag nullcipher only.
func nullCipher() *xts.Cipher { return nil }
