package verity

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

// What veritysetup made is right, whether its tree has one level or two, and no changed bit is.
func TestCheck(t *testing.T) {
	for _, blocks := range []int{2, 128, 129, 300} {
		file, root := formatted(t, blocks)
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(bytes.NewReader(content), int64(len(content)), root); err != nil {
			t.Errorf("%d blocks: %v", blocks, err)
		}
		for _, at := range []int{0, blocks*BlockBytes - 1, blocks*BlockBytes + 88, (blocks + 1) * BlockBytes, len(content) - BlockBytes} {
			content[at] ^= 1
			if err := Check(bytes.NewReader(content), int64(len(content)), root); !errors.Is(err, ErrCorrupted) {
				t.Errorf("%d blocks, byte %d: %v", blocks, at, err)
			}
			content[at] ^= 1
		}
		cut := int64(len(content) - BlockBytes)
		if err := Check(bytes.NewReader(content[:cut]), cut, root); !errors.Is(err, ErrCorrupted) {
			t.Errorf("%d blocks, cut: %v", blocks, err)
		}
	}
}
