package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/audit"
)

// exitChain says that an audit log is not as it was written.
const exitChain = 4

// auditFlags are those of a command that reads an audit log, which needs no daemon: the log of a box that is
// gone can be read too.
func auditFlags(e *env, name string) (*flags, *string) {
	f := newFlags(e, name)
	f.StringVar(&f.data, "data", defaultDataDir, "the daemon's data `directory`")
	f.BoolVar(&f.json, "json", false, "print JSON")
	return f, f.String("dir", "", "`directory` of the log (default audit in the data directory)")
}

func (f *flags) auditDir(given string) string {
	if given != "" {
		return given
	}
	return filepath.Join(f.data, "audit")
}

// auditVerify walks the whole chain.
func auditVerify(_ context.Context, e *env, args []string) error {
	f, dir := auditFlags(e, "audit verify")
	known := f.String("last", "", "`hash` of a record, as a former run printed it, that must still be there")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	seen := *known == ""
	count, last, err := audit.Verify(f.auditDir(*dir), func(r *audit.Record) error {
		seen = seen || r.Previous == *known
		return nil
	})
	if err != nil {
		return &exitStatus{exitChain, fmt.Sprintf("%v; the %d records before are sound", err, count)}
	}
	if !seen && last != *known {
		return &exitStatus{exitChain, "the chain is sound, but the record " + *known + " is not in it: the end was cut off, or it is another log"}
	}
	if f.json {
		return printJSON(e.stdout, map[string]any{"records": count, "last": last})
	}
	_, err = fmt.Fprintf(e.stdout, "%d records, none changed, missing or out of order; the last is %s\n", count, last)
	return err
}

// auditLookup prints the newest records that were asked for.
func auditLookup(_ context.Context, e *env, args []string) error {
	f, dir := auditFlags(e, "audit lookup")
	var filter audit.Filter
	f.StringVar(&filter.Event, "event", "", "`name` of the event, as Decrypt")
	f.StringVar(&filter.Source, "source", "", "`service`: kms, elasticfilesystem, iam, nfseal")
	f.StringVar(&filter.Principal, "principal", "", "`who` did it")
	f.StringVar(&filter.Resource, "about", "", "`id` or part of the ARN of what it was about")
	f.BoolVar(&filter.Failed, "failed", false, "only what was refused or failed")
	f.IntVar(&filter.Max, "max", 50, "`records` at most, the newest")
	now := time.Now()
	f.Func("since", "`time` as 1h, or as 2006-01-02T15:04:05Z", func(s string) (err error) {
		filter.Since, err = timeBefore(now, s)
		return err
	})
	f.Func("until", "`time` as 1h, or as 2006-01-02T15:04:05Z", func(s string) (err error) {
		filter.Until, err = timeBefore(now, s)
		return err
	})
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	found, err := audit.Lookup(f.auditDir(*dir), filter)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, found)
	}
	t := newTable(e.stdout, "TIME", "EVENT", "SOURCE", "ERROR", "BY", "ABOUT")
	for i := range found {
		r := &found[i]
		t.row(r.Time.Format(time.DateTime), r.Name, r.Source, r.ErrorCode, by(&r.Identity), about(r))
	}
	return t.flush()
}

func by(i *audit.Identity) string {
	switch {
	case i.Principal != "":
		return i.Principal
	case i.InvokedBy != "":
		return i.InvokedBy
	}
	return i.Type
}

// about is what a record is about: its resources, else what was asked for.
func about(r *audit.Record) string {
	if len(r.Resources) > 0 {
		return strings.Join(r.Resources, " ")
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(r.Parameters)) {
		list = append(list, name+"="+r.Parameters[name])
	}
	return strings.Join(list, " ")
}

// timeBefore reads a point in time, or how long before now it is.
func timeBefore(now time.Time, text string) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is neither a duration as 1h nor a time as 2006-01-02T15:04:05Z", text)
	}
	return t, nil
}
