package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// logOf writes n records, a minute apart, over several files.
func logOf(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	at := time.Unix(1700000000, 0)
	o := testOptions(dir)
	o.Clock = func() time.Time { at = at.Add(time.Minute); return at }
	for begun := 0; begun < n; begun += 10 {
		l := open(t, o)
		for i := begun; i < min(n, begun+10); i++ {
			e := Event{Source: []string{"kms", "elasticfilesystem"}[i%2], Name: fmt.Sprint("Event", i%3), Resources: []string{fmt.Sprint("arn:fs-", i%5)}}
			e.Parameters = map[string]string{"n": fmt.Sprint("v", i)}
			if i%4 == 0 {
				e.ErrorCode = "Wrong"
			}
			if err := l.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		l.Close()
	}
	return dir
}

func TestLookup(t *testing.T) {
	dir := logOf(t, 60)
	minute := func(n int) time.Time { return time.Unix(1700000000, 0).Add(time.Duration(n) * time.Minute) }
	for name, c := range map[string]struct {
		f      Filter
		want   int
		newest uint64
	}{
		"all":           {Filter{}, 60, 60},
		"the newest":    {Filter{Max: 7}, 7, 60},
		"an event":      {Filter{Event: "Event1"}, 20, 59},
		"a service":     {Filter{Source: "kms"}, 30, 59},
		"both":          {Filter{Source: "kms", Event: "Event0"}, 10, 55},
		"failures":      {Filter{Failed: true}, 15, 57},
		"a resource":    {Filter{Resource: "fs-4"}, 12, 60},
		"a parameter":   {Filter{Resource: "v17"}, 1, 18},
		"since":         {Filter{Since: minute(41)}, 20, 60},
		"until":         {Filter{Until: minute(20)}, 20, 20},
		"between":       {Filter{Since: minute(31), Until: minute(33)}, 3, 33},
		"nothing":       {Filter{Event: "Event9"}, 0, 0},
		"nobody's":      {Filter{Principal: "bob"}, 0, 0},
		"in the future": {Filter{Since: minute(1000)}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if c.f.Max == 0 {
				c.f.Max = 100
			}
			got, err := Lookup(dir, c.f)
			if err != nil || len(got) != c.want {
				t.Fatalf("%d records, %v; want %d", len(got), err, c.want)
			}
			for i := range got {
				if i > 0 && got[i].Sequence >= got[i-1].Sequence {
					t.Errorf("%d after %d", got[i].Sequence, got[i-1].Sequence)
				}
			}
			if c.want > 0 && got[0].Sequence != c.newest {
				t.Errorf("the newest is %d, want %d", got[0].Sequence, c.newest)
			}
		})
	}
	for _, bad := range []Filter{{}, {Max: 1, Since: minute(2), Until: minute(1)}} {
		if _, err := Lookup(dir, bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestLookupInADamagedLog(t *testing.T) {
	dir := logOf(t, 10)
	numbers, err := listFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fileName(numbers[len(numbers)-1]))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text[:len(text)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Lookup(dir, Filter{Max: 100}); err != nil || len(got) != 9 {
		t.Errorf("with a torn last line: %d records, %v", len(got), err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Lookup(dir, Filter{Max: 100}); err == nil {
		t.Error("a changed line was shown")
	}
}
