package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/appliance/trust"
)

// showRecovery says where a new recovery key is shown: in the file that was named, or to whoever sits at the
// terminal if the root of trust is a TPM. It is never shown to a log.
func showRecovery(c *config) {
	root := &c.options.Root
	if c.moveTo != nil {
		root = c.moveTo
	}
	switch {
	case c.recoveryFile != "":
		root.ShowRecovery = func(key string) error {
			return durable.CreateFile(c.recoveryFile, []byte(key+"\n"), 0o600)
		}
	case root.Kind == trust.TPM && isTerminal(os.Stdout):
		root.ShowRecovery = func(key string) error { return printRecovery(os.Stdout, key) }
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func printRecovery(out io.Writer, key string) error {
	_, err := fmt.Fprintf(out, "Recovery key, shown this once. Write it down: without it, everything is lost when the TPM refuses.\n\n    %s\n\n", key)
	return err
}
