package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// state is what /run/nfseal/<port>.json says of a running tunnel.
type state struct {
	PID        int    `json:"pid"`
	Port       int    `json:"port"`
	Target     string `json:"target"`
	ServerName string `json:"server_name"`
	Directory  string `json:"directory"`
}

// writeState puts the file in place as a whole and gives its path.
func writeState(dir string, s state) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return "", err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("state of the tunnel: %w", err)
	}
	path := filepath.Join(dir, strconv.Itoa(s.Port)+".json")
	fresh := path + ".new"
	if err := os.WriteFile(fresh, append(data, '\n'), 0o600); err != nil {
		return "", err
	}
	return path, os.Rename(fresh, path)
}
