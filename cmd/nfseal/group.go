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
	return ask(ctx, e, f, args, 1, func(c *api.Client, given []string) (api.SecurityGroup, error) {
		return c.CreateSecurityGroup(ctx, api.SecurityGroup{Name: given[0], Description: *description})
	}, line(func(g api.SecurityGroup) []any { return []any{g.ID} }))
}

func groupList() runner {
	return all((*api.Client).SecurityGroups, rows(func(t *table, g *api.SecurityGroup) {
		if len(g.Rules) == 0 {
			t.row(g.ID, g.Name, "", "", "nobody")
		}
		for _, r := range g.Rules {
			t.row(g.ID, g.Name, r.ID, portsText(r.LowPort, r.HighPort), sourcesText(r.Sources))
		}
	}, "ID", "NAME", "RULE", "PORTS", "FROM"))
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

// groupAllow makes as many rules as the prefixes need.
func groupAllow(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "group allow").withDaemon()
	var sources words
	f.Var(&sources, "from", "`prefix` of clients, as 10.0.0.0/8; may be given more than once")
	file := f.String("file", "", "`file` with a prefix a line")
	ports := f.String("port", "2049", "`port`, or low-high")
	return call(ctx, e, f, args, 1, func(c *api.Client, given []string) error {
		rule, err := api.GroupRule{}, error(nil)
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
		for part := range slices.Chunk(sources, sourcesPerRule) {
			rule.Sources = part
			made, err := c.AddRule(ctx, given[0], rule)
			if err != nil {
				return err
			}
			fmt.Fprintln(e.stdout, made.ID)
		}
		return nil
	})
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
