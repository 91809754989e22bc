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

// lastLinkOfFile is the last line of a file before one that is not whole, as a crash can leave some behind that nobody
// was told of. Whether the rest is sound is Verify's business.
func lastLinkOfFile(path string) (last link, found bool, err error) {
	err = eachLine(path, func(_ int, line []byte) error {
		record, next, err := parseLine(line)
		if err == nil && found {
			err = follows(last, &record)
		}
		if err != nil {
			return errStop
		}
		last, found = next, true
		return nil
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return last, found, err
}

// errStop ends eachLine.
var errStop = errors.New("enough")

// eachLine calls visit with the number and the text of each whole line, until there are no more or visit fails. The last line may
// be torn, and is passed over: nobody was told of it.
func eachLine(path string, visit func(number int, line []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, MaxLineBytes)
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil && err != bufio.ErrBufferFull { // that is for visit: no line is so long
			return fmt.Errorf("%s line %d: %w", path, number, err)
		}
		if err := visit(number, line); err != nil {
			return err
		}
	}
}

// Verify walks the whole chain in dir and calls visit, which may be nil, with each record. It
// returns how many records there are and the hash of the last, or what is wrong and where.
func Verify(dir string, visit func(*Record) error) (count uint64, last string, err error) {
	numbers, err := listFiles(dir)
	if err != nil {
		return 0, "", fmt.Errorf("audit: %w", err)
	}
	v := verifier{visit: visit}
	for i, n := range numbers {
		path := filepath.Join(dir, fileName(i+1))
		if n != i+1 {
			return v.end.sequence, "", fmt.Errorf("audit: %s is missing", path)
		}
		if err := v.file(path); err != nil {
			return v.end.sequence, "", fmt.Errorf("audit: %w", err)
		}
	}
	if v.torn != nil {
		return v.end.sequence, "", fmt.Errorf("audit: %w", v.torn)
	}
	return v.end.sequence, hex.EncodeToString(v.end.hash[:]), nil
}

// verifier is a walk over the chain.
type verifier struct {
	visit func(*Record) error
	end   link
	// torn is why a file ended before its end. After a crash that is how it must be, and the next record, in a later
	// file, follows the last one before it; if there is none, or it follows another one, it was an edit.
	torn error
}

func (v *verifier) file(path string) error {
	err := eachLine(path, func(number int, line []byte) error {
		record, next, err := parseLine(line)
		if err != nil {
			if v.torn == nil {
				v.torn = fmt.Errorf("%s line %d %w", path, number, err)
			}
			return errStop
		}
		if err := follows(v.end, &record); err != nil && v.torn != nil {
			return v.torn
		} else if err != nil {
			return fmt.Errorf("%s line %d %w", path, number, err)
		}
		v.end, v.torn = next, nil
		if v.visit == nil {
			return nil
		}
		return v.visit(&record)
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
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
