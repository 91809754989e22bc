package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/nfseal/nfseal/proxy/ktls"
)

// config is what /etc/nfseal/mount.conf says; "" where it says nothing.
type config struct {
	cafile, region, suffix string
	ktls                   ktls.Use
}

// readConfig reads the file at path. A missing one says nothing.
func readConfig(path string) (config, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return config{}, nil
	}
	if err != nil {
		return config{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return config{}, err
	}
	if len(data) > maxConfigBytes {
		return config{}, fmt.Errorf("%s is larger than %d bytes", path, maxConfigBytes)
	}
	c, err := parseConfig(string(data))
	if err != nil {
		return config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// parseConfig reads lines "key = value"; "#" begins a comment line.
func parseConfig(text string) (config, error) {
	var c config
	fields := map[string]*string{
		"cafile": &c.cafile, "region": &c.region, "dns_name_suffix": &c.suffix, "ktls": (*string)(&c.ktls),
	}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		field := fields[key]
		switch {
		case !ok || value == "":
			return config{}, fmt.Errorf("line %d is not \"key = value\"", i+1)
		case field == nil:
			return config{}, fmt.Errorf("line %d: %q is not known here (cafile, region, dns_name_suffix, ktls are)", i+1, key)
		}
		*field = value
	}
	return c, nil
}
