package steer

import (
	"fmt"
	"os"
)

func daemonMain(text string) int { fmt.Fprintln(os.Stderr, text); return 1 }
