package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: workload ops DIR [NAME...] | ranges DIR [NAME...] | fill DIR | brim DIR | make DIR N | list DIR | once DIR SIGNAL | hammer DIR SECONDS SEED CRASHES | durable DIR SEED MINOR COUNT | durable-check DIR SEED MINOR DONE AHEAD | overwrite FILE FIRST LAST WAY | overwritten FILE ROUND WAY")

func run(args []string) error {
	if len(args) < 2 {
		return errUsage
	}
	name, dir, rest := args[0], args[1], args[2:]
	switch {
	case name == "ops":
		return runOps(checks, dir, rest)
	case name == "ranges":
		return runOps(rangeChecks, dir, rest)
	case name == "child":
		return runChild(dir, rest)
	case name == "fill" && len(rest) == 0:
		return fill(dir)
	case name == "brim" && len(rest) == 0:
		return brim(dir)
	case name == "list" && len(rest) == 0:
		return list(dir)
	case name == "make" && len(rest) == 1:
		n, err := strconv.Atoi(rest[0])
		if err != nil {
			return err
		}
		return makeFiles(dir, n)
	case name == "once" && len(rest) == 1:
		return once(dir, rest[0])
	case name == "durable" && len(rest) == 3, name == "durable-check" && len(rest) == 4:
		return runDurable(name, dir, rest)
	case name == "overwrite" && len(rest) == 3:
		first, err1 := strconv.Atoi(rest[0])
		last, err2 := strconv.Atoi(rest[1])
		return errors.Join(err1, err2, overwrite(dir, first, last, rest[2] == "direct"))
	case name == "overwritten" && len(rest) == 2:
		round, err := strconv.Atoi(rest[0])
		return errors.Join(err, overwritten(dir, round, rest[1] == "direct"))
	case name == "hammer" && len(rest) == 3:
		seconds, err1 := strconv.Atoi(rest[0])
		seed, err2 := strconv.ParseUint(rest[1], 10, 64)
		crashes, err3 := strconv.Atoi(rest[2])
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		return hammer(dir, time.Duration(seconds)*time.Second, seed, crashes)
	}
	return errUsage
}

func runDurable(name, dir string, args []string) error {
	var n [4]int
	for i, a := range args {
		var err error
		if n[i], err = strconv.Atoi(a); err != nil {
			return err
		}
	}
	if name == "durable" {
		return durable(dir, uint64(n[0]), n[1], n[2])
	}
	return durableCheck(dir, uint64(n[0]), n[1], n[2], n[3])
}
