package demo

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/internal/tree"
)

const (
	// minNeedleBytes makes a hit by chance in noise impossible in practice: 2^-64 at each place.
	minNeedleBytes = 8
	// contentNeedleBytes is the length of what is taken from files' contents.
	contentNeedleBytes = 24
	// searchBufferBytes is read at once.
	searchBufferBytes = 4 << 20
	// maxNeedles of each sort.
	maxNeedles = 1000
)

// Needles are byte strings to search for, each once. It is used by one goroutine at a time.
type Needles struct {
	all [][]byte
	// first has a bit for every three bytes that some needle begins with, and eight one for a hash of
	// every eight: two look-ups dismiss nearly every place.
	first []uint64
	eight []uint64
	// byStart finds the needles by their first eight bytes.
	byStart map[uint64][][]byte
	longest int
	buffer  []byte
}

// NewNeedles prepares a search. Every needle has at least eight bytes.
func NewNeedles(all [][]byte) (*Needles, error) {
	n := &Needles{
		first:   make([]uint64, 1<<24/64),
		eight:   make([]uint64, 1<<eightBits/64),
		byStart: make(map[uint64][][]byte),
	}
	all = slices.Clone(all)
	slices.SortFunc(all, bytes.Compare)
	n.all = slices.CompactFunc(all, bytes.Equal)
	for _, needle := range n.all {
		if len(needle) < minNeedleBytes {
			return nil, fmt.Errorf("demo: needle %q is shorter than %d bytes", needle, minNeedleBytes)
		}
		start := binary.LittleEndian.Uint64(needle)
		three, hash := start&(1<<24-1), hashOf(start)
		n.first[three/64] |= 1 << (three % 64)
		n.eight[hash/64] |= 1 << (hash % 64)
		n.byStart[start] = append(n.byStart[start], needle)
		n.longest = max(n.longest, len(needle))
	}
	n.buffer = make([]byte, searchBufferBytes+n.longest)
	return n, nil
}

// eightBits is the width of hashOf.
const eightBits = 20

func hashOf(start uint64) uint64 { return start * 0x9e3779b97f4a7c15 >> (64 - eightBits) }

// Len is the number of needles.
func (n *Needles) Len() int { return len(n.all) }

// Found counts hits: bytes searched, and how often each needle was there.
type Found struct {
	Bytes int64
	Hits  map[string]int
}

func (f *Found) add(g Found) {
	f.Bytes += g.Bytes
	for needle, count := range g.Hits {
		f.Hits[needle] += count
	}
}

// SearchFile searches one file. Holes are skipped: nothing was ever written there.
func (n *Needles) SearchFile(path string) (Found, error) {
	f, err := os.Open(path)
	if err != nil {
		return Found{}, err
	}
	defer f.Close()
	found := Found{Hits: make(map[string]int)}
	for end := int64(0); ; {
		start, err := f.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return found, nil // there is no more data
		}
		if err != nil {
			return Found{}, fmt.Errorf("demo: search %s: %w", path, err)
		}
		if end, err = f.Seek(start, unix.SEEK_HOLE); err != nil {
			return Found{}, fmt.Errorf("demo: search %s: %w", path, err)
		}
		if err := n.searchReader(io.NewSectionReader(f, start, end-start), &found); err != nil {
			return Found{}, fmt.Errorf("demo: search %s: %w", path, err)
		}
	}
}

func (n *Needles) searchReader(r io.Reader, found *Found) error {
	kept := 0 // bytes of the last read that a needle could begin in
	for {
		read, err := io.ReadFull(r, n.buffer[kept:kept+searchBufferBytes])
		found.Bytes += int64(read)
		window := n.buffer[:kept+read]
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			n.searchWindow(window, len(window), found.Hits)
			return nil
		}
		if err != nil {
			return err
		}
		end := len(window) - n.longest // what begins later is found in the next window, whole
		n.searchWindow(window, end, found.Hits)
		kept = copy(n.buffer, window[end:])
	}
}

// searchWindow counts the needles that begin before end.
func (n *Needles) searchWindow(window []byte, end int, hits map[string]int) {
	end = min(end, len(window)-minNeedleBytes+1)
	for i := 0; i < end; i++ {
		start := binary.LittleEndian.Uint64(window[i:])
		three := start & (1<<24 - 1)
		if n.first[three/64]&(1<<(three%64)) == 0 {
			continue
		}
		hash := hashOf(start)
		if n.eight[hash/64]&(1<<(hash%64)) == 0 {
			continue
		}
		for _, needle := range n.byStart[start] {
			if bytes.HasPrefix(window[i:], needle) {
				hits[string(needle)]++
			}
		}
	}
}

// SearchDir searches all regular files below dir, and their names and paths too.
func (n *Needles) SearchDir(dir string) (Found, error) {
	sum := Found{Hits: make(map[string]int)}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		n.searchWindow([]byte(rel), len(rel), sum.Hits)
		if !d.Type().IsRegular() {
			return nil
		}
		found, err := n.SearchFile(path)
		if err != nil {
			return err
		}
		sum.add(found)
		return nil
	})
	if err != nil {
		return Found{}, fmt.Errorf("demo: %w", err)
	}
	return sum, nil
}

// Pick takes needles from a tree: names of files and directories, and pieces of the contents of as
// many files. The choice is the same for the same seed.
func Pick(root string, entries []tree.Entry, seed uint64) (names, contents [][]byte, err error) {
	r := rand.New(rand.NewPCG(seed, 0))
	order := r.Perm(len(entries))
	for _, i := range order {
		e := &entries[i]
		if base := filepath.Base(e.Path); len(base) >= 2*minNeedleBytes && len(names) < maxNeedles {
			names = append(names, []byte(base))
		}
		if e.SHA256 == "" || len(contents) == maxNeedles {
			continue
		}
		piece, err := pickPiece(filepath.Join(root, e.Path), e.SizeBytes, r)
		if err != nil {
			return nil, nil, err
		}
		if piece != nil {
			contents = append(contents, piece)
		}
	}
	return names, contents, nil
}

// pickPiece reads a piece from somewhere in the file that is varied enough to be its own, or nothing.
func pickPiece(path string, sizeBytes int64, r *rand.Rand) ([]byte, error) {
	if sizeBytes < contentNeedleBytes {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	defer f.Close()
	piece := make([]byte, contentNeedleBytes)
	if _, err := f.ReadAt(piece, r.Int64N(sizeBytes-contentNeedleBytes+1)); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	kinds := slices.Clone(piece)
	slices.SortFunc(kinds, cmp.Compare)
	if len(slices.Compact(kinds)) < contentNeedleBytes/2 {
		return nil, nil
	}
	return piece, nil
}
