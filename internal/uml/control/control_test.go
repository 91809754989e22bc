package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"testing"
)

func TestRequestRoundTrip(t *testing.T) {
	want := &Request{Args: []string{"cp", "-a", "a b"}, Env: []string{"A=1"}, Dir: "/mnt", Stdin: []byte{0, 1}}
	var b bytes.Buffer
	if err := WriteJSON(&b, KindRequest, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadRequest(&b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestAnswerSeparatesTheStreams(t *testing.T) {
	var b bytes.Buffer
	for _, f := range []struct {
		kind    Kind
		payload string
	}{{KindStdout, "one "}, {KindStderr, "bad"}, {KindStdout, "two"}, {KindExit, `{"Code":32}`}} {
		if err := WriteFrame(&b, f.kind, []byte(f.payload)); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	exit, err := ReadAnswer(&b, &stdout, &stderr)
	if err != nil || exit.Code != 32 {
		t.Fatalf("got %+v, %v, want code 32", exit, err)
	}
	if stdout.String() != "one two" || stderr.String() != "bad" {
		t.Fatalf("got %q and %q", &stdout, &stderr)
	}
}

func TestAnswerRefusesWhatIsNotOne(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"kind":     {"q\x00\x00\x00\x00", ErrFrame},
		"length":   {"o\xff\xff\xff\xff", ErrFrame},
		"exit":     {"x\x00\x00\x00\x01{", ErrFrame},
		"cut":      {"o\x00\x00\x00\x09ab", io.ErrUnexpectedEOF},
		"nothing":  {"", io.EOF},
		"headless": {"o\x00", io.ErrUnexpectedEOF},
	} {
		_, err := ReadAnswer(bytes.NewBufferString(c.in), io.Discard, io.Discard)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte("r\x00\x00\x00\x0f{\"Args\":[\"ls\"]}"))
	f.Add([]byte("r\x00\x00\x00\x02{}"))
	f.Add([]byte("x\x00\x00\x00\x00"))
	f.Add([]byte("r\x7f\xff\xff\xff{"))
	f.Fuzz(func(t *testing.T, in []byte) {
		req, err := ReadRequest(bytes.NewReader(in))
		if err != nil {
			return
		}
		first, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		if len(first) > MaxFrameBytes {
			return
		}
		var b bytes.Buffer
		if err := WriteFrame(&b, KindRequest, first); err != nil {
			t.Fatal(err)
		}
		again, err := ReadRequest(&b)
		if err != nil {
			t.Fatal(err)
		}
		if second, _ := json.Marshal(again); !bytes.Equal(first, second) {
			t.Fatalf("%s became %s", first, second)
		}
	})
}
