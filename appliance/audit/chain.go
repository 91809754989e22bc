package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// The fixed parts of a line.
const (
	linePrefix = `{"hash":"`
	lineMiddle = `","record":`
	lineSuffix = "}\n"
)

func formatLine(hash [sha256.Size]byte, body []byte) []byte {
	line := make([]byte, 0, len(linePrefix)+2*len(hash)+len(lineMiddle)+len(body)+len(lineSuffix))
	line = append(line, linePrefix...)
	line = hex.AppendEncode(line, hash[:])
	line = append(line, lineMiddle...)
	line = append(line, body...)
	return append(line, lineSuffix...)
}

// parseLine takes a whole line apart and checks its hash.
func parseLine(line []byte) (Record, link, error) {
	var record Record
	rest, ok := bytes.CutPrefix(line, []byte(linePrefix))
	if !ok || len(rest) < 2*sha256.Size {
		return record, link{}, errors.New("is not a log line")
	}
	digits := rest[:2*sha256.Size]
	body, ok := bytes.CutPrefix(rest[2*sha256.Size:], []byte(lineMiddle))
	if !ok {
		return record, link{}, errors.New("is not a log line")
	}
	body, ok = bytes.CutSuffix(body, []byte(lineSuffix))
	if !ok {
		return record, link{}, errors.New("is incomplete")
	}
	hash := sha256.Sum256(body)
	if hex.EncodeToString(hash[:]) != string(digits) {
		return record, link{}, errors.New("was changed: its hash does not match")
	}
	if err := json.Unmarshal(body, &record); err != nil {
		return record, link{}, errors.New("holds no record")
	}
	return record, link{record.Sequence, hash}, nil
}

// listFiles returns the numbers of the log's files, ascending.
func listFiles(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, e := range entries {
		if n := fileNumber(e.Name()); n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// lastLink finds the end of the chain and the number of the newest file. Files that hold no whole
// line (a crash at their beginning) are passed over.
func lastLink(dir string) (link, int, error) {
	numbers, err := listFiles(dir)
	if err != nil || len(numbers) == 0 {
		return link{}, 0, err
	}
	newest := numbers[len(numbers)-1]
	for _, n := range slices.Backward(numbers) {
		last, found, err := lastLinkOfFile(filepath.Join(dir, fileName(n)))
		if err != nil {
			return link{}, 0, err
		}
		if found {
			return last, newest, nil
		}
	}
	return link{}, newest, nil
}

// lastLinkOfFile looks at the end of a file alone: whether the rest is sound is Verify's business.
func lastLinkOfFile(path string) (last link, found bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return link{}, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return link{}, false, err
	}
	start := max(0, info.Size()-2*maxLineBytes) // room for a torn line and a whole one
	tail := make([]byte, info.Size()-start)
	if _, err := f.ReadAt(tail, start); err != nil && err != io.EOF {
		return link{}, false, err
	}
	for len(tail) > 0 {
		begin := bytes.LastIndexByte(tail[:len(tail)-1], '\n') + 1
		if _, last, err := parseLine(tail[begin:]); err == nil {
			return last, true, nil
		}
		tail = tail[:begin]
	}
	return link{}, false, nil
}

// Verify walks the whole chain in dir and calls visit, which may be nil, with each record. It
// returns how many records there are and the hash of the last, or what is wrong and where.
func Verify(dir string, visit func(*Record) error) (count uint64, last string, err error) {
	numbers, err := listFiles(dir)
	if err != nil {
		return 0, "", fmt.Errorf("audit: %w", err)
	}
	var end link
	for i, n := range numbers {
		if n != i+1 {
			return end.sequence, "", fmt.Errorf("audit: %s is missing", filepath.Join(dir, fileName(i+1)))
		}
		if end, err = verifyFile(filepath.Join(dir, fileName(n)), end, visit); err != nil {
			return end.sequence, "", fmt.Errorf("audit: %w", err)
		}
	}
	return end.sequence, hex.EncodeToString(end.hash[:]), nil
}

func verifyFile(path string, end link, visit func(*Record) error) (link, error) {
	f, err := os.Open(path)
	if err != nil {
		return end, err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, maxLineBytes)
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF {
			return end, nil // nothing, or a torn last line that nobody was told of
		}
		if err != nil {
			return end, fmt.Errorf("%s line %d: %w", path, number, err)
		}
		record, next, err := parseLine(line)
		if err == nil {
			err = follows(end, &record)
		}
		if err != nil {
			return end, fmt.Errorf("%s line %d %w", path, number, err)
		}
		end = next
		if visit == nil {
			continue
		}
		if err := visit(&record); err != nil {
			return end, err
		}
	}
}

// follows says whether record is the one after end.
func follows(end link, record *Record) error {
	if record.Sequence != end.sequence+1 {
		return fmt.Errorf("has sequence number %d where %d belongs", record.Sequence, end.sequence+1)
	}
	if record.Previous != hex.EncodeToString(end.hash[:]) {
		return errors.New("does not follow the record before it")
	}
	return nil
}
