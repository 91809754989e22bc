package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/nfseal/nfseal/appliance/api"
)

// sourcesPerRule is how many prefixes the daemon takes in one rule.
const sourcesPerRule = 1000

// maxSourcesBytes bounds what is read of a file of prefixes.
const maxSourcesBytes = 16 << 20

func groupCreate(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "group create").withDaemon()
	description := f.String("description", "", "`text` for people")
	names, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	made, err := c.CreateSecurityGroup(ctx, api.SecurityGroup{Name: names[0], Description: *description})
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, made)
	}
	_, err = fmt.Fprintln(e.stdout, made.ID)
	return err
}

func groupList(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "group list").withDaemon()
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	list, err := c.SecurityGroups(ctx)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, list)
	}
	t := newTable(e.stdout, "ID", "NAME", "RULE", "PORTS", "FROM")
	for _, g := range list {
		if len(g.Rules) == 0 {
			t.row(g.ID, g.Name, "", "", "nobody")
		}
		for _, r := range g.Rules {
			t.row(g.ID, g.Name, r.ID, portsText(r.LowPort, r.HighPort), sourcesText(r.Sources))
		}
	}
	return t.flush()
}

func portsText(low, high uint16) string {
	if low == high {
		return fmt.Sprint(low)
	}
	return fmt.Sprintf("%d-%d", low, high)
}

// sourcesText names the first of many.
func sourcesText(sources []string) string {
	const most = 4
	if len(sources) <= most {
		return strings.Join(sources, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(sources[:most], " "), len(sources)-most)
}

func groupDelete(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "group delete").withDaemon()
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	return c.DeleteSecurityGroup(ctx, ids[0])
}

// groupAllow makes as many rules as the prefixes need.
func groupAllow(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "group allow").withDaemon()
	var sources words
	f.Var(&sources, "from", "`prefix` of clients, as 10.0.0.0/8; may be given more than once")
	file := f.String("file", "", "`file` with a prefix a line")
	ports := f.String("port", "2049", "`port`, or low-high")
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	rule := api.GroupRule{}
	if rule.LowPort, rule.HighPort, err = parsePorts(*ports); err != nil {
		return err
	}
	if *file != "" {
		more, err := readSources(*file)
		if err != nil {
			return err
		}
		sources = append(sources, more...)
	}
	if len(sources) == 0 {
		return errors.New("no prefix was given: --from or --file is needed")
	}
	c := f.client(e)
	defer c.Close()
	for part := range slices.Chunk(sources, sourcesPerRule) {
		rule.Sources = part
		made, err := c.AddRule(ctx, ids[0], rule)
		if err != nil {
			return err
		}
		fmt.Fprintln(e.stdout, made.ID)
	}
	return nil
}

func parsePorts(s string) (low, high uint16, err error) {
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		last = first
	}
	a, errA := strconv.ParseUint(first, 10, 16)
	b, errB := strconv.ParseUint(last, 10, 16)
	if errA != nil || errB != nil || a > b {
		return 0, 0, fmt.Errorf("%q is not a port or low-high", s)
	}
	return uint16(a), uint16(b), nil
}

// readSources takes a prefix a line, but for empty lines and what follows a #.
func readSources(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("prefixes can't be read: %w", err)
	}
	defer f.Close()
	var list []string
	lines := bufio.NewScanner(io.LimitReader(f, maxSourcesBytes))
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text != "" {
			list = append(list, text)
		}
	}
	return list, lines.Err()
}

func groupRevoke(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "group revoke").withDaemon()
	ids, err := f.parse(args, 2)
	if err != nil {
		return err
	}
	c := f.client(e)
	defer c.Close()
	return c.RemoveRule(ctx, ids[0], ids[1])
}
