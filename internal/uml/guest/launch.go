package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/internal/uml/control"
)

// scratch is where user-mode Linux keeps its memory: a tmpfs of the guest's own.
const scratch = "/dev/shm"

// launch runs in fresh process, mount and network namespaces, and becomes the guest.
func launch(planFile string) error {
	plan, err := control.ReadPlan(planFile)
	if err != nil {
		return err
	}
	if plan.Kernel == "" {
		return launchHere(plan, planFile)
	}
	if err := lockDown(plan.Share); err != nil {
		return err
	}
	if err := unix.Mount("guest", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("tmpfs on %s: %w", scratch, err)
	}
	env := []string{"TMPDIR=" + scratch, "HOME=" + scratch, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if plan.Preload != "" {
		env = append(env, "LD_PRELOAD="+plan.Preload)
	}
	args := append([]string{plan.Kernel}, plan.KernelArgs...)
	return fmt.Errorf("%s: %w", plan.Kernel, unix.Exec(plan.Kernel, args, env))
}

// launchHere makes a guest of this very kernel: the namespaces are all there is to it.
func launchHere(plan *control.Plan, planFile string) error {
	if err := waitForLinks(plan.Links); err != nil {
		return err
	}
	if err := lockDown(plan.Share); err != nil {
		return err
	}
	if err := remountSys(); err != nil {
		return err
	}
	env := []string{control.PlanVariable + "=" + planFile, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	return fmt.Errorf("%s: %w", plan.Agent, unix.Exec(plan.Agent, []string{plan.Agent, "init"}, env))
}

// waitForLinks waits until the host has put the guest's end of every wire into this namespace.
func waitForLinks(links []control.Link) error {
	deadline := time.Now().Add(10 * time.Second)
	for _, link := range links {
		for !linkExists(link.Name) {
			if time.Now().After(deadline) {
				return fmt.Errorf("interface %s did not appear", link.Name)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nil
}

// lockDown makes every mount read-only in this mount namespace, share excepted, and gives the
// namespace its own /proc.
func lockDown(share string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount(share, share, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", share, err)
	}
	readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &readOnly); err != nil {
		return fmt.Errorf("make mounts read-only (Linux 5.12 has mount_setattr): %w", err)
	}
	writable := unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, share, 0, &writable); err != nil {
		return fmt.Errorf("make %s writable: %w", share, err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// remountSys shows the network namespace's own interfaces under /sys.
func remountSys() error {
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	return nil
}

// topDirectories lists the directories of the root that hold files, as against kernel interfaces.
func topDirectories() ([]string, error) {
	entries, err := os.ReadDir("/")
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		name := "/" + e.Name()
		if !e.IsDir() || strings.Contains(" /proc /sys /dev /run /lost+found /boot ", " "+name+" ") {
			continue
		}
		dirs = append(dirs, name)
	}
	if len(dirs) == 0 {
		return nil, errors.New("the root directory has no directories")
	}
	return dirs, nil
}
