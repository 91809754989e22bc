package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "kernelvm: only for the first process of a virtual machine")
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Println("kernelvm:", err)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) // does not return where it can be done
}

func run() error {
	if err := mountAll(); err != nil {
		return err
	}
	if err := errors.Join(loadModules(), raiseLoopback()); err != nil {
		return err
	}
	version, err := os.ReadFile("/proc/version")
	if err != nil {
		return err
	}
	fmt.Print("kernelvm: ", string(version))
	arguments, err := os.ReadFile("/arguments")
	if err != nil {
		return err
	}
	environment, err := os.ReadFile("/environment")
	if err != nil {
		return err
	}
	tests, err := filepath.Glob("/tests/*/test")
	for _, path := range tests {
		result := "passed"
		if err := runTest(path, strings.Fields(string(arguments)), strings.Fields(string(environment))); err != nil {
			result = "FAILED: " + err.Error()
		}
		fmt.Printf("kernelvm: %s: %s\n", filepath.Base(filepath.Dir(path)), result)
	}
	return err
}

func mountAll() error {
	var errs []error
	for _, m := range []struct{ kind, path string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"}, {"bpf", "/sys/fs/bpf"},
	} {
		err := os.MkdirAll(m.path, 0o755)
		if err == nil {
			err = unix.Mount(m.kind, m.path, m.kind, 0, "")
		}
		if err != nil && !errors.Is(err, unix.EBUSY) { // the kernel may have mounted /dev itself
			errs = append(errs, fmt.Errorf("mount %s: %w", m.path, err))
		}
	}
	return errors.Join(errs...)
}

func loadModules() error {
	modules, err := filepath.Glob("/modules/*.ko")
	for _, path := range modules {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("module %s: %w", path, err)
		}
	}
	return err
}

// raiseLoopback gives tests 127.0.0.1.
func raiseLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

func runTest(path string, arguments, environment []string) error {
	cmd := exec.Command(path, arguments...)
	cmd.Dir = filepath.Dir(path)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	cmd.Env = append([]string{"HOME=/tmp", "TMPDIR=/tmp", "PATH=/"}, environment...)
	return cmd.Run()
}
