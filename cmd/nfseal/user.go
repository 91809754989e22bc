package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

// onUser runs a command that says nothing when it went well.
func onUser(ctx context.Context, e *env, name string, args []string, want int, do func(c *api.Client, given []string) error) error {
	f := newFlags(e, name).withDaemon()
	given, err := f.parse(args, want)
	if err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	return do(c, given)
}

func userCreate(ctx context.Context, e *env, args []string) error {
	return onUser(ctx, e, "user create", args, 1, func(c *api.Client, given []string) error {
		return c.CreateUser(ctx, given[0])
	})
}

func userDelete(ctx context.Context, e *env, args []string) error {
	return onUser(ctx, e, "user delete", args, 1, func(c *api.Client, given []string) error {
		return c.DeleteUser(ctx, given[0])
	})
}

func userKeyDelete(ctx context.Context, e *env, args []string) error {
	return onUser(ctx, e, "user key delete", args, 2, func(c *api.Client, given []string) error {
		return c.DeleteAccessKey(ctx, given[0], given[1])
	})
}

func userPolicyPut(ctx context.Context, e *env, args []string) error {
	return onUser(ctx, e, "user policy put", args, 3, func(c *api.Client, given []string) error {
		text, err := readPolicy(e, given[2])
		if err != nil {
			return err
		}
		return c.PutUserPolicy(ctx, given[0], given[1], text)
	})
}

func userPolicyDelete(ctx context.Context, e *env, args []string) error {
	return onUser(ctx, e, "user policy delete", args, 2, func(c *api.Client, given []string) error {
		return c.DeleteUserPolicy(ctx, given[0], given[1])
	})
}

// userKeyCreate prints the key in the form of ~/.aws/credentials.
func userKeyCreate(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "user key create").withDaemon()
	given, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	k, err := c.CreateAccessKey(ctx, given[0])
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, k)
	}
	_, err = fmt.Fprintf(e.stdout, "aws_access_key_id = %s\naws_secret_access_key = %s\n", k.AccessKeyID, k.SecretAccessKey)
	return err
}

func userList(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "user list").withDaemon()
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	users, err := c.Users(ctx)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, users)
	}
	t := newTable(e.stdout, "USER", "CREATED", "ACCESS KEYS", "POLICIES")
	for _, u := range users {
		var keys []string
		for _, k := range u.AccessKeys {
			keys = append(keys, k.AccessKeyID)
		}
		policies := slices.Sorted(maps.Keys(u.Policies))
		t.row(u.UserName, u.Created.UTC().Format(time.DateTime), strings.Join(keys, " "), strings.Join(policies, " "))
	}
	return t.flush()
}
