package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

func keyCreate(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "key create").withDaemon()
	alias := f.String("alias", "", "`alias/NAME` of the key")
	description := f.String("description", "", "`text` for people")
	policy := f.String("policy", "", "`file` with the key's policy, - for the standard input (default: the account's users, as their policies say)")
	every := f.Int("rotate-every", 0, "`days` after which the key is given a new version, 90 to 2560 (default never)")
	var list tags
	f.Var(&list, "tag", "`KEY=VALUE`, may be given more than once")
	return ask(ctx, e, f, args, 0, func(c *api.Client, _ []string) (api.KeyDescription, error) {
		text, err := "", error(nil)
		if *policy != "" {
			if text, err = readPolicy(e, *policy); err != nil {
				return api.KeyDescription{}, err
			}
		}
		made, err := c.CreateKey(ctx, *description, text, kmsTags(list))
		if err != nil {
			return api.KeyDescription{}, err
		}
		if err := furnishKey(ctx, c, made.KeyID, *alias, *every); err != nil {
			return api.KeyDescription{}, fmt.Errorf("key %s was made, but: %w", made.KeyID, err)
		}
		return c.Key(ctx, made.KeyID)
	}, line(func(k api.KeyDescription) []any { return []any{k.KeyID} }))
}

// furnishKey gives a new key what belongs to others of KMS's operations.
func furnishKey(ctx context.Context, c *api.Client, id, alias string, every int) error {
	if every != 0 {
		if err := c.SetKeyRotation(ctx, id, every); err != nil {
			return err
		}
	}
	if alias == "" {
		return nil
	}
	return c.CreateKeyAlias(ctx, alias, id)
}

func kmsTags(list tags) []api.KMSTag {
	all := make([]api.KMSTag, 0, len(list))
	for _, t := range list {
		all = append(all, api.KMSTag{TagKey: t.Key, TagValue: t.Value})
	}
	return all
}

func keyList() runner {
	return all((*api.Client).Keys, rows(func(t *table, k *api.KeyDescription) {
		t.row(k.KeyID, strings.Join(k.Aliases, " "), keyState(&k.KeyMetadata), rotationText(&k.Rotation), k.Description)
	}, "ID", "ALIASES", "STATE", "ROTATION", "DESCRIPTION"))
}

// keyState is the state of a key, and when it ends.
func keyState(k *api.KeyMetadata) string {
	if k.DeletionDate == 0 {
		return k.State
	}
	return k.State + " " + dateText(k.DeletionDate)
}

func rotationText(r *api.KeyRotation) string {
	if !r.Enabled {
		return "never"
	}
	return fmt.Sprintf("%d days", r.PeriodDays)
}

// dateText is a time that KMS has in seconds since 1970.
func dateText(seconds float64) string {
	return time.UnixMilli(int64(seconds * 1000)).UTC().Format(time.DateTime)
}

func keyText(w io.Writer, k api.KeyDescription) error {
	t := newTable(w)
	t.row("id", k.KeyID)
	t.row("ARN", k.ARN)
	t.row("aliases", strings.Join(k.Aliases, " "))
	t.row("description", k.Description)
	t.row("state", keyState(&k.KeyMetadata))
	t.row("created", dateText(k.Created))
	t.row("managed by", map[string]string{"AWS": "the appliance, for file systems"}[k.Manager])
	t.row("new version", rotationText(&k.Rotation))
	if k.Rotation.Enabled {
		t.row("next", dateText(k.Rotation.Next))
	}
	return t.flush()
}

func keyRotate(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "key rotate").withDaemon()
	every := f.String("every", "", "`days` between new versions, 90 to 2560, or never; nothing happens now")
	return call(ctx, e, f, args, 1, func(c *api.Client, given []string) error {
		switch *every {
		case "":
			return c.RotateKey(ctx, given[0])
		case "never":
			return c.SetKeyRotation(ctx, given[0], 0)
		}
		days, err := strconv.Atoi(*every)
		if err != nil || days < 1 {
			return fmt.Errorf("%q is not a number of days, nor never", *every)
		}
		return c.SetKeyRotation(ctx, given[0], days)
	})
}

func keyScheduleDeletion(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "key schedule-deletion").withDaemon()
	days := f.Int("days", 30, "`days` until the key is destroyed, 7 to 30")
	return ask(ctx, e, f, args, 1, func(c *api.Client, given []string) (keyDeletion, error) {
		at, err := c.ScheduleKeyDeletion(ctx, given[0], *days)
		return keyDeletion{at}, err
	}, line(func(d keyDeletion) []any { return []any{"destroyed after", d.DeletionDate.Format(time.DateTime)} }))
}

type keyDeletion struct{ DeletionDate time.Time }

func keyAliasList() runner {
	return all((*api.Client).KeyAliases, rows(func(t *table, a *api.KeyAlias) { t.row(a.Name, a.KeyID) }, "ALIAS", "KEY"))
}

func keyPolicyPut(ctx context.Context, c *api.Client, given []string, policy string) error {
	return c.PutKeyPolicy(ctx, given[0], policy)
}

func keyGrantList() runner {
	return of((*api.Client).KeyGrants, rows(func(t *table, g *api.KeyGrant) {
		t.row(g.ID, g.Name, g.Grantee, strings.Join(g.Operations, " "))
	}, "ID", "NAME", "TO", "OPERATIONS"))
}

func keyGrantCreate(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "key grant create").withDaemon()
	g := api.KeyGrant{}
	f.StringVar(&g.Name, "name", "", "`name`: a second grant like it under the name is not made")
	f.StringVar(&g.Grantee, "to", "", "`principal`, by ARN")
	f.StringVar(&g.Retiring, "retiring", "", "`principal` who may end the grant, by ARN")
	f.Var((*words)(&g.Operations), "operation", "`name` of an operation that it lets, as Decrypt; may be given more than once")
	var pairs tags
	f.Var(&pairs, "context", "`NAME=VALUE` that the encryption context must have; may be given more than once")
	return ask(ctx, e, f, args, 1, func(c *api.Client, given []string) (keyGrantMade, error) {
		if len(pairs) > 0 {
			g.Constraints = &api.GrantConstraints{EncryptionContextSubset: make(map[string]string)}
		}
		for _, p := range pairs {
			g.Constraints.EncryptionContextSubset[p.Key] = p.Value
		}
		id, err := c.CreateKeyGrant(ctx, given[0], g)
		return keyGrantMade{id}, err
	}, line(func(m keyGrantMade) []any { return []any{m.GrantID} }))
}

type keyGrantMade struct {
	GrantID string `json:"GrantId"`
}
