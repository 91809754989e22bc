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

func fsPolicyShow(ctx context.Context, e *env, args []string) error {
	return call(e, newFlags(e, "fs policy show").withDaemon(), args, 1, func(c *api.Client, given []string) error {
		text, err := c.FileSystemPolicy(ctx, given[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(e.stdout, strings.TrimSuffix(text, "\n"))
		return err
	})
}

func fsPolicyPut(ctx context.Context, e *env, args []string) error {
	return call(e, newFlags(e, "fs policy put").withDaemon(), args, 2, func(c *api.Client, given []string) error {
		text, err := readPolicy(e, given[1])
		if err != nil {
			return err
		}
		return c.PutFileSystemPolicy(ctx, given[0], text)
	})
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

func fsPolicyDelete(ctx context.Context, e *env, args []string) error {
	return call(e, newFlags(e, "fs policy delete").withDaemon(), args, 1, func(c *api.Client, given []string) error {
		return c.DeleteFileSystemPolicy(ctx, given[0])
	})
}
