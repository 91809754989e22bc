package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Filter says which records are looked for; what is zero does not matter.
type Filter struct {
	Event     string // eventName, exactly
	Source    string // eventSource, exactly
	Principal string // principalId, exactly
	Resource  string // part of a resource, or a value of a request parameter
	Failed    bool   // only what has an error code
	Since     time.Time
	Until     time.Time
	Max       int // how many records at most
}

// Validate says what is wrong with f.
func (f *Filter) Validate() error {
	if f.Max < 1 {
		return errors.New("audit: at least one record must be allowed")
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && f.Until.Before(f.Since) {
		return errors.New("audit: the time ends before it begins")
	}
	return nil
}

func (f *Filter) matches(r *Record) bool {
	switch {
	case f.Event != "" && r.Name != f.Event,
		f.Source != "" && r.Source != f.Source,
		f.Principal != "" && r.Identity.Principal != f.Principal,
		f.Failed && r.ErrorCode == "",
		!f.Since.IsZero() && r.Time.Before(f.Since),
		!f.Until.IsZero() && r.Time.After(f.Until):
		return false
	}
	return f.Resource == "" || r.isAbout(f.Resource)
}

// isAbout says whether what stands in a resource, or is the value of a parameter.
func (r *Record) isAbout(what string) bool {
	for _, resource := range r.Resources {
		if strings.Contains(resource, what) {
			return true
		}
	}
	for _, value := range r.Parameters {
		if value == what {
			return true
		}
	}
	return false
}

// Lookup returns the newest records in dir that f looks for, the newest first. Each line's own hash is
// checked; whether lines are missing is Verify's business. The log may be written meanwhile.
func Lookup(dir string, f Filter) ([]Record, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	numbers, err := listFiles(dir)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	var found []Record
	for _, n := range slices.Backward(numbers) {
		records, oldest, err := lookupFile(filepath.Join(dir, fileName(n)), &f)
		if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		slices.Reverse(records)
		found = append(found, records...)
		if len(found) >= f.Max {
			return found[:f.Max], nil
		}
		if !f.Since.IsZero() && !oldest.IsZero() && oldest.Before(f.Since) {
			break // what is in older files is older still
		}
	}
	return found, nil
}

// lookupFile returns the last f.Max records of a file that f looks for, and the time of its first record.
func lookupFile(path string, f *Filter) (found []Record, oldest time.Time, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, oldest, err
	}
	defer file.Close()
	lines := bufio.NewReaderSize(file, MaxLineBytes)
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF {
			return found, oldest, nil // a torn last line is nobody's record
		}
		if err != nil {
			return nil, oldest, fmt.Errorf("%s line %d: %w", path, number, err)
		}
		record, _, err := parseLine(line)
		if err != nil {
			return nil, oldest, fmt.Errorf("%s line %d %w", path, number, err)
		}
		if number == 1 {
			oldest = record.Time
		}
		if !f.matches(&record) {
			continue
		}
		if found = append(found, record); len(found) >= 2*f.Max {
			found = slices.Delete(found, 0, len(found)-f.Max)
		}
	}
}
