package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nfseal/nfseal/appliance/api"
)

func fsQuota(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, "fs quota").withDaemon()
	set := f.String("set", "", "the new quota: a `size` as 500GiB, or none")
	ids, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	c, err := f.client(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close()
	if *set != "" {
		quota, err := quotaOf(*set)
		if err != nil {
			return err
		}
		return c.SetQuota(ctx, ids[0], quota)
	}
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(s.FileSystems, func(fs api.FileSystemStatus) bool { return fs.ID == ids[0] })
	if i < 0 {
		return fmt.Errorf("there is no file system %s", ids[0])
	}
	fs := s.FileSystems[i]
	if f.json {
		return printJSON(e.stdout, api.Quota{QuotaBytes: fs.QuotaBytes})
	}
	quota := "none"
	if fs.QuotaBytes > 0 {
		quota = bytesText(fs.QuotaBytes)
	}
	_, err = fmt.Fprintf(e.stdout, "used %s, quota %s\n", bytesText(fs.UsedBytes), quota)
	return err
}

// quotaOf reads a size: a number with an optional unit K, M, G, T or P, with or without "iB", each 1024
// times the one before; or none, which is 0.
func quotaOf(s string) (uint64, error) {
	if s == "none" {
		return 0, nil
	}
	digits, shift := strings.TrimSuffix(s, "iB"), 0
	if k := strings.IndexAny(digits, "KMGTP"); k > 0 && k == len(digits)-1 {
		shift = 10 * (1 + strings.IndexByte("KMGTP", digits[k]))
		digits = digits[:k]
	} else if digits != s {
		digits = s
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || n > (1<<62)>>shift {
		return 0, fmt.Errorf("%q is not a size such as 512MiB or 10G, nor none", s)
	}
	return n << shift, nil
}
