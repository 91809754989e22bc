package demo

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/nfseal/nfseal/internal/uml"
)

// What crosses an interface is in the file, whole frames of it, and is found there.
func TestCaptureSeesTheWire(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("makes a network namespace: runs as root in make test and .ci/run")
	}
	n, err := uml.NewNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	path := filepath.Join(t.TempDir(), "pcap")
	capture, err := StartCapture(n, "lo", path)
	if err != nil {
		t.Fatal(err)
	}
	const said = "said in the clear on a wire"
	sayOnLoopback(t, n, said)
	if err := capture.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := needles(t, said).SearchFile(path)
	if err != nil || found.Hits[said] == 0 {
		t.Fatalf("found %+v, %v", found, err)
	}
	if frames := countFrames(t, path); frames != capture.Frames() || frames < 4 {
		t.Fatalf("the file has %d whole frames, and %d were captured", frames, capture.Frames())
	}
}

func sayOnLoopback(t *testing.T, n *uml.Network, text string) {
	t.Helper()
	l, err := n.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := n.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if got, err := io.ReadAll(other); err != nil || string(got) != text {
		t.Fatalf("heard %q, %v", got, err)
	}
}

// countFrames walks the records of a pcap file.
func countFrames(t *testing.T, path string) int64 {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var frames int64
	for rest := text[24:]; len(rest) > 0; frames++ {
		length := binary.LittleEndian.Uint32(rest[8:])
		rest = rest[16+length:]
	}
	return frames
}
