package main

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/nfseal/nfseal/internal/tree"
)

// toolWorkers work at once: one CPU, but most of the time goes into waiting for a server.
const toolWorkers = 16

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
	fsync := flags.Bool("sync", false, "fsync each file, then print its path")
	list := flags.Bool("list", false, "print the path of each file that is copied")
	like := flags.String("like", "", "take attributes from this `description` of SRC (hostfs shows whole seconds)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("usage: guest copy [-sync] [-list] [-like FILE] SRC DST")
	}
	o := tree.CopyOptions{Workers: toolWorkers, Sync: *fsync}
	if *fsync || *list {
		o.Copied = printPath()
	}
	if *like != "" {
		var err error
		if o.Entries, err = readDescription(*like); err != nil {
			return err
		}
	}
	syscall.Umask(0) // the modes are those of the source
	return tree.Copy(flags.Arg(1), flags.Arg(0), o)
}

func readDescription(path string) ([]tree.Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return tree.Read(f)
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
