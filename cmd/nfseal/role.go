package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

func roleCreate(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "role create").withDaemon()
	trust := f.String("trust", "", "`file` with the policy that says who may assume the role, - for the standard input")
	longest := f.Duration("max-session", time.Hour, "how long a session may be, 1h to 12h")
	return ask(ctx, e, f, args, 1, func(c *api.Client, given []string) (api.RoleDescription, error) {
		if *trust == "" {
			return api.RoleDescription{}, errors.New("--trust is needed: without it nobody may assume the role")
		}
		text, err := readPolicy(e, *trust)
		if err != nil {
			return api.RoleDescription{}, err
		}
		return c.CreateRole(ctx, api.CreateRoleRequest{RoleName: given[0], TrustPolicy: text, MaxSessionDuration: int(longest.Seconds())})
	}, line(func(r api.RoleDescription) []any { return []any{r.ARN} }))
}

func roleList() runner {
	return all((*api.Client).Roles, rows(func(t *table, r *api.RoleDescription) {
		policies := slices.Sorted(maps.Keys(r.Policies))
		longest := time.Duration(r.MaxSessionDuration) * time.Second
		t.row(r.RoleName, r.Created.UTC().Format(time.DateTime), longest.String(), strings.Join(policies, " "))
	}, "ROLE", "CREATED", "LONGEST SESSION", "POLICIES"))
}

// roleTrust is the trust policy of a role.
func roleTrust(c *api.Client, ctx context.Context, name string) (string, error) {
	list, err := c.Roles(ctx)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(list, func(r api.RoleDescription) bool { return r.RoleName == name })
	if i < 0 {
		return "", fmt.Errorf("there is no role %s", name)
	}
	return list[i].TrustPolicy, nil
}

func roleTrustPut(ctx context.Context, c *api.Client, given []string, policy string) error {
	return c.PutTrustPolicy(ctx, given[0], policy)
}

func rolePolicyPut(ctx context.Context, c *api.Client, given []string, policy string) error {
	return c.PutRolePolicy(ctx, given[0], given[1], policy)
}
