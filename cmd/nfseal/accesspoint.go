package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nfseal/nfseal/appliance/api"
)

// ids are numeric user or group ids with commas between them.
func ids(text string) ([]uint32, error) {
	var list []uint32
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is not a numeric id", part)
		}
		list = append(list, uint32(n))
	}
	return list, nil
}

// owner reads UID:GID.
func owner(text string) (uid, gid uint32, err error) {
	u, g, found := strings.Cut(text, ":")
	if !found {
		return 0, 0, fmt.Errorf("%q is not UID:GID", text)
	}
	list, err := ids(u + "," + g)
	if err != nil || len(list) != 2 {
		return 0, 0, fmt.Errorf("%q is not UID:GID", text)
	}
	return list[0], list[1], nil
}

func accessPointCreate(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "ap create").withDaemon()
	path := f.String("path", "/", "`directory` that clients see as the root")
	user := f.String("user", "", "`UID:GID` that every request acts for (default whom the client names)")
	groups := f.String("groups", "", "`GIDs` of further groups of that user, with commas between them")
	create := f.String("create-owner", "", "`UID:GID` of the directory if it has to be made")
	mode := f.String("create-mode", "0755", "octal `mode` of the directory if it has to be made")
	name := f.String("name", "", "`name` for people")
	token := f.String("token", "", "`token` that makes a repetition of the command harmless (default a new one)")
	return ask(ctx, e, f, args, 1, func(c *api.Client, given []string) (api.AccessPointDescription, error) {
		r := api.CreateAccessPointRequest{ClientToken: cmp.Or(*token, rand.Text()), FileSystemID: given[0], RootDirectory: &api.RootDirectory{Path: *path}}
		if *name != "" {
			r.Tags = []api.Tag{{Key: "Name", Value: *name}}
		}
		var err error
		if r.PosixUser, err = posixUser(*user, *groups); err != nil {
			return api.AccessPointDescription{}, err
		}
		if *create != "" {
			uid, gid, err := owner(*create)
			if err != nil {
				return api.AccessPointDescription{}, fmt.Errorf("--create-owner: %w", err)
			}
			r.RootDirectory.CreationInfo = &api.CreationInfo{OwnerUID: &uid, OwnerGID: &gid, Permissions: *mode}
		}
		return c.CreateAccessPoint(ctx, r)
	}, line(func(p api.AccessPointDescription) []any { return []any{p.AccessPointID} }))
}

func posixUser(user, groups string) (*api.PosixUser, error) {
	if user == "" && groups != "" {
		return nil, errors.New("--groups needs --user")
	}
	if user == "" {
		return nil, nil
	}
	uid, gid, err := owner(user)
	if err != nil {
		return nil, fmt.Errorf("--user: %w", err)
	}
	u := &api.PosixUser{UID: &uid, GID: &gid}
	if groups != "" {
		if u.SecondaryGIDs, err = ids(groups); err != nil {
			return nil, fmt.Errorf("--groups: %w", err)
		}
	}
	return u, nil
}

func accessPointList() runner {
	return of((*api.Client).AccessPoints, rows(func(t *table, p *api.AccessPointDescription) {
		user := "the client's"
		if u := p.PosixUser; u != nil {
			user = fmt.Sprintf("%d:%d", *u.UID, *u.GID)
		}
		t.row(p.AccessPointID, p.Name, user, p.RootDirectory.Path)
	}, "ID", "NAME", "USER", "ROOT"))
}
