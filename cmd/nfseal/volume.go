package main

import (
	"context"
	"fmt"

	"github.com/nfseal/nfseal/appliance/api"
)

func volumeGrow(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "volume grow").withDaemon()
	unit := f.String("unit", "", "the `id` of the unit, if there are several")
	sizes, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	size := uint64(0) // as large as the device
	if sizes[0] != "device" {
		if size, err = quotaOf(sizes[0]); err != nil || size == 0 {
			return fmt.Errorf("%q is not a size such as 512MiB or 10G, nor device", sizes[0])
		}
	}
	c, err := f.client(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close()
	if *unit == "" {
		if *unit, err = onlyUnit(ctx, c); err != nil {
			return err
		}
	}
	now, err := c.GrowVolume(ctx, *unit, int64(size))
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(e.stdout, api.VolumeSize{SizeBytes: now})
	}
	_, err = fmt.Fprintf(e.stdout, "the volume has %s\n", bytesText(uint64(now)))
	return err
}

// onlyUnit is the id of the unit, if there is one only.
func onlyUnit(ctx context.Context, c *api.Client) (string, error) {
	s, err := c.Status(ctx)
	if err != nil {
		return "", err
	}
	if len(s.Units) != 1 {
		return "", fmt.Errorf("there are %d units: say with --unit which one; `nfseal status` lists them", len(s.Units))
	}
	return s.Units[0].ID, nil
}
