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

func userPolicyPut(ctx context.Context, c *api.Client, given []string, policy string) error {
	return c.PutUserPolicy(ctx, given[0], given[1], policy)
}

// userKeyCreate prints the key in the form of ~/.aws/credentials.
func userKeyCreate() runner {
	return of((*api.Client).CreateAccessKey, func(w io.Writer, k api.AccessKeyDescription) error {
		_, err := fmt.Fprintf(w, "aws_access_key_id = %s\naws_secret_access_key = %s\n", k.AccessKeyID, k.SecretAccessKey)
		return err
	})
}

func userList() runner {
	return all((*api.Client).Users, rows(func(t *table, u *api.UserDescription) {
		var keys []string
		for _, k := range u.AccessKeys {
			keys = append(keys, k.AccessKeyID)
		}
		policies := slices.Sorted(maps.Keys(u.Policies))
		t.row(u.UserName, u.Created.UTC().Format(time.DateTime), strings.Join(keys, " "), strings.Join(policies, " "))
	}, "USER", "CREATED", "ACCESS KEYS", "POLICIES"))
}
