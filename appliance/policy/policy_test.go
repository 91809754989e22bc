package policy

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// world is what a table has said so far.
type world struct {
	identity []*Document
	resource *Document
	session  *Document
	mode     Mode
	cases    int
}

var kinds = map[string]Kind{"identity": Identity, "session": Identity, "resource": Resource, "key": Resource, "trust": Trust}

// TestTables goes through testdata/*.txt. A line "== NAME" begins anew; "identity", "session", "resource",
// "key" and "trust" (resource policies of mode ResourceFirst) give documents in one line; "bad KIND" gives one
// that is refused. A line that begins with an outcome is a case:
//
//	allow|deny|implicit ACTION RESOURCE PRINCIPAL [key=value[|value…]]…
//
// where PRINCIPAL is anonymous, user/NAME, role/NAME, root, other (of another account) or
// service/NAME, or federated/ISSUER.
func TestTables(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	total := 0
	for _, file := range files {
		total += runTable(t, file)
	}
	if total < 300 {
		t.Errorf("%d cases, want 300", total)
	}
}

func runTable(t *testing.T, file string) int {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var w world
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := w.take(line); err != nil {
			t.Errorf("%s:%d: %s: %v", file, n, line, err)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return w.cases
}

func (w *world) take(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "==":
		*w = world{cases: w.cases}
		return nil
	case "bad":
		return w.takeBad(rest)
	case "identity", "session", "resource", "key", "trust":
		return w.takeDocument(word, rest)
	}
	return w.takeCase(word, rest)
}

func (w *world) takeDocument(word, text string) error {
	kind := kinds[word]
	d, err := Parse(kind, text)
	if err != nil {
		return err
	}
	switch word {
	case "identity":
		w.identity = append(w.identity, d)
	case "session":
		w.session = d
	case "key", "trust":
		w.resource, w.mode = d, ResourceFirst
	default:
		w.resource = d
	}
	return nil
}

func (w *world) takeBad(rest string) error {
	w.cases++
	word, text, _ := strings.Cut(rest, " ")
	kind := kinds[word]
	if _, err := Parse(kind, text); !errors.Is(err, ErrMalformed) {
		return fmt.Errorf("taken: %v", err)
	}
	return nil
}

func (w *world) takeCase(word, rest string) error {
	w.cases++
	want, ok := map[string]Effect{"allow": Allow, "deny": ExplicitDeny, "implicit": ImplicitDeny}[word]
	fields := strings.Fields(rest)
	if !ok || len(fields) < 3 {
		return errors.New("not a case")
	}
	who, err := principalOf(fields[2])
	if err != nil {
		return err
	}
	r := &Request{Action: fields[0], Resource: fields[1], Principal: who, Session: w.session, Context: map[string][]string{}}
	for _, f := range fields[3:] {
		key, values, _ := strings.Cut(f, "=")
		r.Context[key] = strings.Split(values, "|")
	}
	if got := Evaluate(r, w.identity, w.resource, w.mode); got.Effect != want {
		return fmt.Errorf("%v by %q", got.Effect, got.Sid)
	}
	return nil
}

const account = "111122223333"

func principalOf(s string) (Principal, error) {
	kind, name, _ := strings.Cut(s, "/")
	iam := "arn:aws:iam::" + account + ":"
	switch kind {
	case "anonymous":
		return Principal{}, nil
	case "user":
		return Principal{ARN: iam + s, Account: account}, nil
	case "role":
		return Principal{ARN: "arn:aws:sts::" + account + ":assumed-role/" + name + "/session", Role: iam + s, Account: account}, nil
	case "root":
		return Principal{ARN: iam + "root", Account: account}, nil
	case "other":
		return Principal{ARN: "arn:aws:iam::444455556666:user/eve", Account: "444455556666"}, nil
	case "service":
		return Principal{Service: name}, nil
	case "federated":
		return Principal{Federated: "arn:aws:iam::111122223333:oidc-provider/" + name}, nil
	}
	return Principal{}, fmt.Errorf("principal %q", s)
}

// TestSid checks that a decision names the statement that made it.
func TestSid(t *testing.T) {
	own, err := Parse(Resource, `{"Statement":[{"Sid":"a","Effect":"Allow","Principal":"*","Action":"x:*"},
		{"Sid":"b","Effect":"Deny","Principal":"*","Action":"x:Drop"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := Parse(Identity, `{"Statement":{"Sid":"c","Effect":"Allow","Action":"y:*","Resource":"*"}}`)
	if err != nil {
		t.Fatal(err)
	}
	for action, want := range map[string]Decision{
		"x:Read": {Allow, "a", true}, "x:Drop": {ExplicitDeny, "b", true}, "y:Read": {Allow, "c", false}, "z:Read": {},
	} {
		if got := Evaluate(&Request{Action: action}, []*Document{theirs}, own, Either); got != want {
			t.Errorf("%s: %+v, want %+v", action, got, want)
		}
	}
}

// TestLimits checks the length and the depth of documents.
func TestLimits(t *testing.T) {
	fits := func(n int) string {
		frame := `{"Id":"","Statement":{"Effect":"Allow","Principal":"*","Action":"*"}}`
		return strings.Replace(frame, `"Id":"`, `"Id":"`+strings.Repeat("é", n-len(frame)), 1)
	}
	if _, err := Parse(Resource, fits(MaxDocumentChars)); err != nil {
		t.Error(err)
	}
	if _, err := Parse(Resource, fits(MaxDocumentChars+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("longer: %v", err)
	}
	if _, err := Parse(Resource, strings.Repeat("[", 10000)); !errors.Is(err, ErrMalformed) {
		t.Errorf("deep: %v", err)
	}
}

// TestVariableBytes checks that what a client sends is no wildcard, whatever its bytes.
func TestVariableBytes(t *testing.T) {
	d, err := Parse(Resource, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"*",
		"Resource":"arn:aws:s3:::${aws:username}"}}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"\xfe", "\xff\xff\xff", "*", "???"} {
		r := &Request{Action: "a:b", Resource: "arn:aws:s3:::bob", Context: map[string][]string{"aws:username": {name}}}
		if Evaluate(r, nil, d, Either).Allowed() {
			t.Errorf("%q stands for bob", name)
		}
	}
}

// FuzzPolicy feeds documents and requests: nothing panics, and a deny of all is never passed over.
func FuzzPolicy(f *testing.F) {
	f.Add(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"*"}}`, "a:b", "arn:aws:a:::b", "k", "v")
	f.Add(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","NotPrincipal":{"AWS":"111122223333"},"NotAction":"a:?",
		"NotResource":"arn:*:a:::${k, 'x'}","Condition":{"ForAllValues:NumericLessThanIfExists":{"k":[1,"2.5"]}}}]}`,
		"a:b", "arn:aws:a:::b", "k", "1")
	f.Add(`{"Statement":{"Effect":"Allow","Principal":{"Service":"s"},"Action":"a:*","Condition":{"IpAddress":{"aws:SourceIp":
		["10.0.0.0/8","::1"]},"DateLessThan":{"d":"2020-01-01T00:00:00Z"},"Null":{"z":true}}}}`, "a:b", "x", "aws:SourceIp", "10.1.2.3")
	deny, err := Parse(Identity, `{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text, action, resource, key, value string) {
		r := &Request{Action: action, Resource: resource, Context: map[string][]string{key: {value, action}}}
		for _, kind := range []Kind{Identity, Resource} {
			d, err := Parse(kind, text)
			if err != nil {
				continue
			}
			Evaluate(r, []*Document{d}, d, ResourceFirst)
			if got := Evaluate(r, []*Document{d, deny}, d, Either); got.Effect != ExplicitDeny {
				t.Errorf("denied, and yet %v", got.Effect)
			}
		}
	})
}
