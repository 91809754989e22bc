package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nfseal/nfseal/proxy/tunnel"
)

// State is all that a tunnel process has to know. It holds no secret.
type State struct {
	// Port of 127.0.0.1, 0 for a new tunnel that may have any.
	Port int `json:"port"`
	// Name and Directory say in logs what is mounted and where.
	Name      string `json:"name"`
	Directory string `json:"directory"`
	// Settings are the tunnel's own business.
	Settings json.RawMessage `json:"settings"`
}

func (s *State) validate() error {
	switch {
	case s.Port < 0 || s.Port > 65535:
		return fmt.Errorf("supervisor: port %d", s.Port)
	case len(s.Settings) == 0 || string(s.Settings) == "null":
		return errors.New("supervisor: no settings")
	}
	return nil
}

func statePath(dir string, port int) string {
	return filepath.Join(dir, strconv.Itoa(port)+".json")
}

// write puts the file in place as a whole: a crash leaves the old one, or none.
func (s *State) write(dir string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("supervisor: state: %w", err)
	}
	path := statePath(dir, s.Port)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("supervisor: state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("supervisor: state: %w", err)
	}
	return nil
}

// ReadState reads the state file at path.
func ReadState(path string) (State, error) {
	var s State
	data, err := os.ReadFile(path)
	if err != nil {
		return s, fmt.Errorf("supervisor: state: %w", err)
	}
	if len(data) > maxMessageBytes {
		return s, fmt.Errorf("supervisor: state %s is larger than %d bytes", path, maxMessageBytes)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("supervisor: state %s: %w", path, err)
	}
	if want := strings.TrimSuffix(filepath.Base(path), ".json"); want != strconv.Itoa(s.Port) {
		return s, fmt.Errorf("supervisor: state %s is about port %d", path, s.Port)
	}
	return s, s.validate()
}

// readStates reads all state files of dir. What can't be read is reported and passed over.
func readStates(dir string, report func(error)) []State {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		report(err)
	}
	var all []State
	for _, path := range paths {
		s, err := ReadState(path)
		if err != nil {
			report(err)
			continue
		}
		all = append(all, s)
	}
	return all[:min(len(all), maxTunnels)]
}

// message is what goes over supervisor.sock, one JSON document a line. One field is set.
type message struct {
	// From a mount helper: make a tunnel; the mount stands; the mount failed.
	Open    *State `json:"open,omitempty"`
	Mounted bool   `json:"mounted,omitempty"`
	Cancel  bool   `json:"cancel,omitempty"`
	// To a mount helper: the tunnel serves on Port, in the network namespace NetNS; it is gone; or an error.
	Port  int    `json:"port,omitempty"`
	NetNS string `json:"netns,omitempty"`
	Gone  bool   `json:"gone,omitempty"`
	Error string `json:"error,omitempty"`
	// From a tunnel: its state, with the listening socket beside it; the answer to a ping.
	Hello *State        `json:"hello,omitempty"`
	Pong  *tunnel.Stats `json:"pong,omitempty"`
	// To a tunnel.
	Ping bool `json:"ping,omitempty"`
}
