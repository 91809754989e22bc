package cryptfs

import "github.com/cockroachdb/pebble/v2/vfs"

const (
	// aesBytes is the size of an AES block.
	aesBytes = 16
	// fillerBytes is what a file has behind its logical size, so that its last AES block fits.
	fillerBytes = aesBytes - 1
	// maxBytes is the largest logical size: its physical size is the largest file offset.
	maxBytes = 1<<63 - 1 - headerBytes - fillerBytes
)

// logicalBytes returns the size of the content of a file of physical bytes.
func logicalBytes(physical int64) int64 {
	return max(0, physical-headerBytes-fillerBytes)
}

// isContent says whether this is a file with content, which is encrypted, and not a directory.
func isContent(info vfs.FileInfo) bool { return info.Mode().IsRegular() }

// fileInfo tells the logical size of a file.
type fileInfo struct {
	vfs.FileInfo
}

// Size returns the logical size in bytes.
func (i fileInfo) Size() int64 { return logicalBytes(i.FileInfo.Size()) }

func wrapInfo(info vfs.FileInfo, err error) (vfs.FileInfo, error) {
	if err != nil || !isContent(info) {
		return info, err
	}
	return fileInfo{info}, nil
}
