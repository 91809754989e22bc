package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/nfseal/nfseal/image/maintenance"
)

// door says how a machine in maintenance is reached. The code may come from the environment, where other users don't see it.
type door struct{ to, fingerprint, code string }

func (d *door) register(f *flags) {
	f.StringVar(&d.to, "to", "", "`address` of the machine, as its console shows it")
	f.StringVar(&d.fingerprint, "fingerprint", "", "`SHA-256` of its certificate, as its console shows it")
	f.StringVar(&d.code, "code", "", "the `code` that its console shows (default NFSEAL_MAINTENANCE_CODE)")
}

// withMachine parses the command line and speaks to the machine that it names.
func withMachine(f *flags, args []string, n int, do func(c *maintenance.Client, given []string) error) error {
	var d door
	d.register(f)
	given, err := f.parse(args, n)
	if err != nil {
		return err
	}
	d.code = cmp.Or(d.code, os.Getenv("NFSEAL_MAINTENANCE_CODE"))
	if d.to == "" || d.fingerprint == "" || d.code == "" {
		return errors.New("--to, --fingerprint and --code are needed: the console of the machine shows them")
	}
	c, err := maintenance.NewClient(d.to, d.fingerprint, d.code)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c, given)
}

func installDisks(ctx context.Context, e *env, args []string) error {
	return withMachine(newFlags(e, e.command), args, 0, func(c *maintenance.Client, _ []string) error {
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		return disksText(e.stdout, s)
	})
}

func disksText(w io.Writer, s maintenance.Status) error {
	fmt.Fprintf(w, "nfseal %s, in maintenance: %s\n", s.Version, s.Reason)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DISK\tGiB\tSERIAL\tWWID\tSTATE")
	for _, d := range s.Disks {
		state := "empty"
		if d.Data != "" {
			state = d.Data + ", lost with --erase"
		}
		if d.Refused != "" {
			state = "can't be taken: " + d.Refused
		}
		fmt.Fprintf(t, "%s\t%.1f\t%s\t%s\t%s\n", d.Name, float64(d.SizeBytes)/(1<<30), cmp.Or(d.Serial, "-"), cmp.Or(d.WWID, "-"), state)
	}
	return t.Flush()
}

func installWrite(ctx context.Context, e *env, args []string) error {
	f := newFlags(e, e.command)
	var r maintenance.InstallRequest
	f.BoolVar(&r.Erase, "erase", false, "lose what is on the disk")
	file := f.String("config", "", "configuration `file` that the new system keeps (default the one that the machine is given)")
	restart := f.Bool("restart", false, "start the machine again afterwards")
	return withMachine(f, args, 1, func(c *maintenance.Client, given []string) error {
		r.Disk = given[0]
		if *file != "" {
			text, err := checkedConfiguration(e, *file)
			if err != nil {
				return err
			}
			r.Configuration = text
		}
		if err := c.Install(ctx, r); err != nil {
			return err
		}
		end, err := c.AwaitInstall(ctx, func(p maintenance.Progress) {
			if p.TotalBytes > 0 {
				fmt.Fprintf(e.stderr, "%3d %% written or read back\n", p.DoneBytes*100/p.TotalBytes)
			}
		})
		if err != nil {
			return err
		}
		if end.State != maintenance.InstallDone {
			return fmt.Errorf("nothing was installed: %s", end.Detail)
		}
		fmt.Fprintf(e.stdout, "installed on %s, and read back: SHA-256 %s\n", end.Disk, end.SHA256)
		if *restart {
			return c.Restart(ctx)
		}
		_, err = fmt.Fprintln(e.stdout, "take the medium out, and start the machine again")
		return err
	})
}

// checkedConfiguration reads a file and says what is wrong with it by its name.
func checkedConfiguration(e *env, name string) (string, error) {
	text, err := readPolicy(e, name)
	if err != nil || name == "-" {
		return text, err
	}
	quiet := *e
	quiet.stdout = io.Discard
	return text, checkFile(&quiet, name)
}

func installConfigure(ctx context.Context, e *env, args []string) error {
	return withMachine(newFlags(e, e.command), args, 1, func(c *maintenance.Client, given []string) error {
		text, err := checkedConfiguration(e, given[0])
		if err != nil {
			return err
		}
		if err := c.Configure(ctx, text); err != nil {
			return err
		}
		_, err = fmt.Fprintln(e.stdout, "the machine goes on with it")
		return err
	})
}

func installRestart(ctx context.Context, e *env, args []string) error {
	return withMachine(newFlags(e, e.command), args, 0, func(c *maintenance.Client, _ []string) error { return c.Restart(ctx) })
}
