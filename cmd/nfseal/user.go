package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

func userCreate(ctx context.Context, e *env, args []string) error {
	return call(e, newFlags(e, "user create").withDaemon(), args, 1, func(c *api.Client, given []string) error {
		return c.CreateUser(ctx, given[0])
	})
}

func userDelete(ctx context.Context, e *env, args []string) error {
	return call(e, newFlags(e, "user delete").withDaemon(), args, 1, func(c *api.Client, given []string) error {
		return c.DeleteUser(ctx, given[0])
	})
}

func userKeyDelete(ctx context.Context, e *env, args []string) error {
	return call(e, newFlags(e, "user key delete").withDaemon(), args, 2, func(c *api.Client, given []string) error {
		return c.DeleteAccessKey(ctx, given[0], given[1])
	})
}

func userPolicyPut(ctx context.Context, e *env, args []string) error {
	return call(e, newFlags(e, "user policy put").withDaemon(), args, 3, func(c *api.Client, given []string) error {
		text, err := readPolicy(e, given[2])
		if err != nil {
			return err
		}
		return c.PutUserPolicy(ctx, given[0], given[1], text)
	})
}

func userPolicyDelete(ctx context.Context, e *env, args []string) error {
	return call(e, newFlags(e, "user policy delete").withDaemon(), args, 2, func(c *api.Client, given []string) error {
		return c.DeleteUserPolicy(ctx, given[0], given[1])
	})
}

// userKeyCreate prints the key in the form of ~/.aws/credentials.
func userKeyCreate(ctx context.Context, e *env, args []string) error {
	return ask(e, newFlags(e, "user key create").withDaemon(), args, 1, func(c *api.Client, given []string) (api.AccessKeyDescription, error) {
		return c.CreateAccessKey(ctx, given[0])
	}, func(w io.Writer, k api.AccessKeyDescription) error {
		_, err := fmt.Fprintf(w, "aws_access_key_id = %s\naws_secret_access_key = %s\n", k.AccessKeyID, k.SecretAccessKey)
		return err
	})
}

func userList(ctx context.Context, e *env, args []string) error {
	return ask(e, newFlags(e, "user list").withDaemon(), args, 0, func(c *api.Client, _ []string) ([]api.UserDescription, error) {
		return c.Users(ctx)
	}, rows(func(t *table, u *api.UserDescription) {
		var keys []string
		for _, k := range u.AccessKeys {
			keys = append(keys, k.AccessKeyID)
		}
		policies := slices.Sorted(maps.Keys(u.Policies))
		t.row(u.UserName, u.Created.UTC().Format(time.DateTime), strings.Join(keys, " "), strings.Join(policies, " "))
	}, "USER", "CREATED", "ACCESS KEYS", "POLICIES"))
}
