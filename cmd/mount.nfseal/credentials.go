package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// credentials are an access key as a file of the AWS CLI holds it. It has no formatter that shows the
// secret, and is never logged.
type credentials struct {
	keyID, secret, token string
}

// readCredentials reads one profile of the file at path, which holds sections "[profile]" with lines
// "key = value". A file that others may read is refused.
func readCredentials(path, profile string) (credentials, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return credentials{}, fmt.Errorf("iam: there is no %s; put an access key there, as \"aws configure\" does", path)
	}
	if err != nil {
		return credentials{}, fmt.Errorf("iam: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return credentials{}, fmt.Errorf("iam: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return credentials{}, fmt.Errorf("iam: %s can be read by others; chmod 600 %s", path, path)
	}
	c, err := parseCredentials(io.LimitReader(f, maxConfigBytes), profile)
	if err != nil {
		return credentials{}, fmt.Errorf("iam: %s: %w", path, err)
	}
	return c, nil
}

// parseCredentials finds the access key of a profile. What it doesn't know it passes over; no line is
// quoted in an error, for it may be the secret.
func parseCredentials(r io.Reader, profile string) (credentials, error) {
	var c credentials
	fields := map[string]*string{
		"aws_access_key_id": &c.keyID, "aws_secret_access_key": &c.secret, "aws_session_token": &c.token,
	}
	inside, found := false, false
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			inside = strings.TrimSpace(strings.Trim(line, "[]")) == profile
			found = found || inside
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		field := fields[strings.ToLower(strings.TrimSpace(key))]
		if inside && ok && field != nil {
			*field = strings.TrimSpace(value)
		}
	}
	switch {
	case lines.Err() != nil:
		return credentials{}, errors.New("a line is too long")
	case !found:
		return credentials{}, fmt.Errorf("there is no profile %q; name another with awsprofile=", profile)
	case c.keyID == "" || c.secret == "":
		return credentials{}, fmt.Errorf("profile %q needs aws_access_key_id and aws_secret_access_key", profile)
	}
	return c, nil
}
