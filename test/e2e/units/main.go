package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nfseal/nfseal/appliance"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "units:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 3 {
		return errors.New("usage: units DATA IP")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ip := os.Args[2]
	a, err := appliance.Open(ctx, appliance.Options{
		DataDir: os.Args[1], Host: "another-host",
		Listen: []string{net.JoinHostPort(ip, "2049")}, OCSPListen: net.JoinHostPort(ip, "2050"), Advertise: []string{ip},
	})
	if err != nil {
		return err
	}
	// It reads until the test closes the pipe or the process ends.
	go obey(ctx, a)
	return errors.Join(a.Run(ctx), a.Close())
}

func obey(ctx context.Context, a *appliance.Appliance) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		verb, unit, _ := strings.Cut(lines.Text(), " ")
		err := fmt.Errorf("unknown: %q", verb)
		switch verb {
		case "stop":
			err = a.StopUnit(unit)
		case "start":
			err = a.StartUnit(ctx, unit)
		}
		if err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", "; "))
			continue
		}
		fmt.Println("ok")
	}
}
