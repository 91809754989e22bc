package main

import (
	"flag"
	"fmt"
	"os"
	"sync"

	"github.com/nfseal/nfseal/internal/tree"
)

// toolWorkers work at once: one CPU, but most of the time goes into waiting for a server.
const toolWorkers = 8

var tools = map[string]func(args []string) error{
	"scan": scanTree,
	"copy": copyTree,
}

func scanTree(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: guest scan DIR")
	}
	entries, err := tree.Scan(args[0], toolWorkers)
	if err != nil {
		return err
	}
	return tree.Write(os.Stdout, entries)
}

func copyTree(args []string) error {
	flags := flag.NewFlagSet("copy", flag.ContinueOnError)
	sync := flags.Bool("sync", false, "fsync each file, then print its path")
	list := flags.Bool("list", false, "print the path of each file that is copied")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("usage: guest copy [-sync] [-list] SRC DST")
	}
	o := tree.CopyOptions{Workers: toolWorkers, Sync: *sync}
	if *sync || *list {
		o.Copied = printPath()
	}
	return tree.Copy(flags.Arg(1), flags.Arg(0), o)
}

// printPath prints from any goroutine, one line at a time.
func printPath() func(string, int64) {
	var mu sync.Mutex
	return func(path string, _ int64) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(path)
	}
}
