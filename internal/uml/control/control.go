package control

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxFrameBytes bounds a frame's payload, and so a Request with its Stdin.
const MaxFrameBytes = 1 << 20

// Port is where the guest listens on the control wire.
const Port = 1023

// ErrFrame says that the other end sent something that is not a frame.
var ErrFrame = errors.New("control: malformed frame")

// Kind says what a frame holds.
type Kind byte

// The kinds of frame.
const (
	KindRequest Kind = 'r'
	KindStdout  Kind = 'o'
	KindStderr  Kind = 'e'
	KindExit    Kind = 'x'
)

// Request asks the guest to do one thing: run Args, or end.
type Request struct {
	// Args is the command and its arguments, looked up in the guest's PATH.
	Args []string `json:",omitempty"`
	// Env is added to the guest's environment.
	Env []string `json:",omitempty"`
	// Dir is the working directory; empty is the root.
	Dir string `json:",omitempty"`
	// Stdin is all of the command's standard input.
	Stdin []byte `json:",omitempty"`
	// PowerOff ends the guest at once, without writing anything back.
	PowerOff bool `json:",omitempty"`
}

// Exit is how a command ended.
type Exit struct {
	// Code is the exit status, or 128 plus the signal's number.
	Code int
	// Error says why the command could not be started or waited for; empty if it ran.
	Error string `json:",omitempty"`
}

// WriteFrame writes one frame. The payload is not kept.
func WriteFrame(w io.Writer, kind Kind, payload []byte) error {
	if len(payload) > MaxFrameBytes {
		return fmt.Errorf("%w: %d bytes are more than %d", ErrFrame, len(payload), MaxFrameBytes)
	}
	frame := make([]byte, 5+len(payload))
	frame[0] = byte(kind)
	binary.BigEndian.PutUint32(frame[1:], uint32(len(payload)))
	copy(frame[5:], payload)
	_, err := w.Write(frame)
	return err
}

// ReadFrame reads one frame. The payload is the caller's.
func ReadFrame(r io.Reader) (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > MaxFrameBytes {
		return 0, nil, fmt.Errorf("%w: length %d", ErrFrame, n)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, err
	}
	return Kind(head[0]), payload, nil
}

// WriteJSON writes v as the payload of one frame.
func WriteJSON(w io.Writer, kind Kind, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return WriteFrame(w, kind, payload)
}

// ReadRequest reads the one request of a connection.
func ReadRequest(r io.Reader) (*Request, error) {
	kind, payload, err := ReadFrame(r)
	if err != nil {
		return nil, err
	}
	if kind != KindRequest {
		return nil, fmt.Errorf("%w: kind %q instead of a request", ErrFrame, kind)
	}
	req := new(Request)
	if err := json.Unmarshal(payload, req); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return req, nil
}

// ReadAnswer copies a command's output to stdout and stderr until it has ended.
func ReadAnswer(r io.Reader, stdout, stderr io.Writer) (Exit, error) {
	for {
		kind, payload, err := ReadFrame(r)
		if err != nil {
			return Exit{}, err
		}
		switch kind {
		case KindStdout:
			_, err = stdout.Write(payload)
		case KindStderr:
			_, err = stderr.Write(payload)
		case KindExit:
			var exit Exit
			if err := json.Unmarshal(payload, &exit); err != nil {
				return Exit{}, fmt.Errorf("%w: %w", ErrFrame, err)
			}
			return exit, nil
		default:
			err = fmt.Errorf("%w: kind %q", ErrFrame, kind)
		}
		if err != nil {
			return Exit{}, err
		}
	}
}
