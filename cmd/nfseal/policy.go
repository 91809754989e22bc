package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/nfseal/nfseal/appliance/api"
)

// maxPolicyBytes bounds what is read of a policy's file; the daemon takes fewer.
const maxPolicyBytes = 1 << 20

func policyText(w io.Writer, text string) error {
	_, err := fmt.Fprintln(w, strings.TrimSuffix(text, "\n"))
	return err
}

func fsPolicyPut(ctx context.Context, c *api.Client, given []string, policy string) error {
	return c.PutFileSystemPolicy(ctx, given[0], policy)
}

func readPolicy(e *env, path string) (string, error) {
	from := e.stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("policy can't be read: %w", err)
		}
		defer file.Close()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, maxPolicyBytes))
	if err != nil {
		return "", fmt.Errorf("policy can't be read: %w", err)
	}
	return string(text), nil
}
