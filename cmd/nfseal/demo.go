package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/nfseal/nfseal/internal/demo"
)

// runDemo shows the main job with the kernel's own client. It starts a daemon of its own, from the
// programs beside this one.
func runDemo(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "demo")
	o := demo.Options{Out: e.stdout}
	f.StringVar(&o.Source, "source", "", "`directory` to copy (default the Go toolchain's sources)")
	f.StringVar(&o.VolumeSize, "volume-size", "", "`size` of the volume (default 1GiB)")
	f.BoolVar(&o.Keep, "keep", false, "leave data directory and capture where they are, and say where")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o.BinDir = filepath.Dir(self)
	if o.Source != "" {
		if o.Source, err = filepath.Abs(o.Source); err != nil {
			return err
		}
	}
	return demo.Run(ctx, o)
}
