package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	overwriteBlock  = 4096
	overwriteBlocks = 8192 // of a file
	// overwritePiece is how many blocks one call writes or reads: eight of the calls that the client makes of it.
	overwritePiece = 2048
)

// overwrite writes a file over and over, in large pieces, and says which round is through when it is on the server's disk. Each block
// holds its number and that of the round, all over.
func overwrite(path string, first, last int, direct bool) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|directFlag(direct), 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	piece := alignedBytes(overwritePiece * overwriteBlock)
	for round := first; round <= last; round++ {
		for at := 0; at < overwriteBlocks; at += overwritePiece {
			for i := range overwritePiece {
				fillBlock(piece[i*overwriteBlock:][:overwriteBlock], round, at+i)
			}
			if _, err := f.WriteAt(piece, int64(at)*overwriteBlock); err != nil {
				return err
			}
		}
		if err := f.Sync(); err != nil {
			return err
		}
		fmt.Println(round)
	}
	return nil
}

func directFlag(direct bool) int {
	if direct {
		return unix.O_DIRECT
	}
	return 0
}

// alignedBytes are aligned for O_DIRECT.
func alignedBytes(n int) []byte {
	b := make([]byte, n+overwriteBlock)
	if off := int(uintptr(unsafe.Pointer(&b[0])) % overwriteBlock); off != 0 {
		b = b[overwriteBlock-off:]
	}
	return b[:n]
}

func fillBlock(b []byte, round, number int) {
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], uint64(round)<<32|uint64(number))
	}
}

// overwritten reads such a file once. Every block is of one write, belongs where it is, and is no older than a round that was through
// when the file was opened.
func overwritten(path string, round int, direct bool) error {
	f, err := os.OpenFile(path, os.O_RDONLY|directFlag(direct), 0)
	if err != nil {
		return err
	}
	defer f.Close()
	piece := alignedBytes(overwritePiece * overwriteBlock)
	for at := 0; at < overwriteBlocks; at += overwritePiece {
		if _, err := io.ReadFull(io.NewSectionReader(f, int64(at)*overwriteBlock, int64(len(piece))), piece); err != nil {
			return fmt.Errorf("blocks from %d on: %w", at, err)
		}
		for i := range overwritePiece {
			if err := checkBlock(piece[i*overwriteBlock:][:overwriteBlock], round, at+i); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkBlock(b []byte, round, number int) error {
	word := binary.LittleEndian.Uint64(b)
	if !bytes.Equal(b, bytes.Repeat(b[:8], len(b)/8)) {
		return fmt.Errorf("block %d is of two writes, or of none: it begins with %#x", number, word)
	}
	if int(uint32(word)) != number || int(word>>32) < round {
		return fmt.Errorf("block %d holds block %d of round %d; round %d was through", number, uint32(word), word>>32, round)
	}
	return nil
}
