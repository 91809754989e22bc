package main

import (
	"fmt"
	"os"

	"github.com/nfseal/nfseal/internal/uml/control"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	// A kernel starts its first process without telling it its part.
	if os.Getpid() == 1 && len(args) == 0 {
		args = []string{"init"}
	}
	switch {
	case len(args) == 2 && args[0] == "launch":
		return launch(args[1])
	case len(args) == 1 && args[0] == "init":
		return initialise(os.Getenv(control.PlanVariable))
	case len(args) == 1 && args[0] == "serve":
		return serve(os.Getenv(control.PlanVariable))
	}
	if len(args) > 0 {
		if tool, ok := tools[args[0]]; ok {
			return tool(args[1:])
		}
	}
	return fmt.Errorf("usage: guest launch FILE | init | serve | scan DIR | copy [FLAGS] SRC DST")
}
