package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/internal/uml/control"
)

// initialise is process 1. When its child has ended, the guest ends at once, without waiting for
// anything, a hanging mount least of all.
func initialise(planFile string) error {
	if os.Getpid() != 1 {
		return errors.New("init is for process 1: it ends by switching the machine off")
	}
	fmt.Fprintln(os.Stderr, "guest: init:", bootAndReap(planFile))
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		return err
	}
	select {}
}

// bootAndReap returns why the guest ends, at last.
func bootAndReap(planFile string) error {
	plan, err := control.ReadPlan(planFile)
	if err != nil {
		return err
	}
	for _, step := range []func(*control.Plan) error{
		mountKernelInterfaces, loadModules, keepShare, mountOverlays, mountShare, setUpNetwork,
	} {
		if err := step(plan); err != nil {
			return err
		}
	}
	return superviseServer(plan, planFile)
}

// superviseServer starts the one child and collects every process that has lost its parent.
func superviseServer(plan *control.Plan, planFile string) error {
	server := exec.Command(plan.Agent, "serve")
	server.Env = []string{
		control.PlanVariable + "=" + planFile,
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LANG=C.UTF-8", "TMPDIR=/tmp",
	}
	server.Stdout, server.Stderr = os.Stdout, os.Stderr
	if err := server.Start(); err != nil {
		return err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case pid == server.Process.Pid:
			return fmt.Errorf("the server has ended: %v", status)
		}
	}
}

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
	}
	return nil
}

func mountKernelInterfaces(plan *control.Plan) error {
	mounts := []mount{{"run", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"}}
	if plan.Kernel != "" {
		mounts = append(mounts,
			mount{"proc", "/proc", "proc", 0, ""},
			mount{"sysfs", "/sys", "sysfs", 0, ""},
			mount{"devpts", "/dev/pts", "devpts", 0, "ptmxmode=666"})
	}
	mounts = append(mounts, mount{"shm", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, ""})
	for _, m := range mounts {
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

// keptShare is where the shared directory stays visible when the overlays come over it.
const keptShare = "/run/share"

func keepShare(plan *control.Plan) error {
	if plan.Kernel == "" {
		return mount{plan.Share, keptShare, "", unix.MS_BIND, ""}.do()
	}
	return mount{"share", keptShare, "hostfs", 0, plan.Share}.do()
}

// mountOverlays makes the host's directories writable without writing to them.
func mountOverlays(*control.Plan) error {
	dirs, err := topDirectories()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		upper, work := "/run/overlay/upper"+dir, "/run/overlay/work"+dir
		if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755)); err != nil {
			return err
		}
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if err := os.Chmod(upper, info.Mode()); err != nil {
			return err
		}
		data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)
		if err := unix.Mount("overlay", dir, "overlay", 0, data); err != nil {
			return fmt.Errorf("overlay on %s: %w", dir, err)
		}
	}
	return nil
}

// mountShare puts the one writable directory of the host over the overlay that hides it.
func mountShare(plan *control.Plan) error {
	return mount{keptShare, plan.Share, "", unix.MS_BIND, ""}.do()
}

func setUpNetwork(plan *control.Plan) error {
	if err := unix.Sethostname([]byte(plan.Hostname)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if err := setUp("lo"); err != nil {
		return err
	}
	for _, link := range plan.Links {
		if err := setUpLink(link); err != nil {
			return fmt.Errorf("interface %s: %w", link.Name, err)
		}
	}
	return writeHosts(plan.Hostname)
}

// writeHosts keeps name look-ups from waiting for name servers that are out of reach.
func writeHosts(name string) error {
	hosts := "127.0.0.1 localhost\n127.0.1.1 " + name + "\n"
	if err := os.WriteFile("/etc/hosts", []byte(hosts), 0o644); err != nil {
		return err
	}
	// It may be a symbolic link to a file that is not there.
	if err := os.Remove("/etc/resolv.conf"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile("/etc/resolv.conf", nil, 0o644)
}

func setUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func setUpLink(l control.Link) error {
	link, err := netlink.LinkByName(l.Name)
	if err != nil {
		return err
	}
	address, err := netlink.ParseAddr(l.Address)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, address); err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(link, l.MTU); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	if l.Gateway == "" {
		return nil
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(l.Gateway)})
}

func linkExists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}
