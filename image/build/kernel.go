package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nfseal/nfseal/image/lock"
	"github.com/nfseal/nfseal/image/modules"
)

// A kernel is what was unpacked of the packages of kernel and boot loader.
type kernel struct {
	version string // as uname -r
	modules string // folder of its modules
	index   *modules.Index
	image   string // bzImage
	stub    string // of systemd, for a unified kernel image
	loader  string // systemd-boot
}

// kernel unpacks the kernel, which the next build finds in the cache.
func (b *builder) kernel(d debs) (*kernel, error) {
	packages := lock.Of(d.all, lock.UseUnpack)
	name := "kernel"
	for _, p := range packages {
		name += "-" + p.SHA256[:12]
	}
	dir := filepath.Join(b.cache, name)
	if _, err := os.Stat(dir); err != nil {
		b.step("unpack the kernel")
		if err := b.unpack(d, packages, dir); err != nil {
			return nil, err
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "lib/modules/*"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("%s has modules of %d kernels, %w", dir, len(found), err)
	}
	k := &kernel{
		version: filepath.Base(found[0]), modules: found[0],
		stub:   filepath.Join(dir, "usr/lib/systemd/boot/efi/linuxx64.efi.stub"),
		loader: filepath.Join(dir, "usr/lib/systemd/boot/efi/systemd-bootx64.efi"),
	}
	k.image = filepath.Join(dir, "boot", "vmlinuz-"+k.version)
	dep, err := os.Open(filepath.Join(k.modules, "modules.dep"))
	if err != nil {
		return nil, err
	}
	k.index, err = modules.Parse(dep)
	return k, errors.Join(err, dep.Close())
}

// unpack takes all files of packages, and has depmod say what modules need.
func (b *builder) unpack(d debs, packages []lock.Package, dir string) error {
	unfinished := filepath.Join(b.work, "kernel")
	for _, p := range packages {
		if err := b.do("dpkg-deb", "--extract", d.file(p), unfinished); err != nil {
			return err
		}
	}
	versions, err := os.ReadDir(filepath.Join(unfinished, "lib/modules"))
	if err != nil {
		return err
	}
	for _, v := range versions {
		if err := b.do("depmod", "--basedir", unfinished, v.Name()); err != nil {
			return err
		}
	}
	return os.Rename(unfinished, dir)
}

// firstModules are what stage1 loads: the ways to a disk with the root file system, and what reads it.
var firstModules = []string{
	"kernel/drivers/virtio/virtio_pci.ko",
	"kernel/drivers/block/virtio_blk.ko",
	"kernel/drivers/scsi/virtio_scsi.ko",
	"kernel/drivers/nvme/host/nvme.ko",
	"kernel/drivers/pci/controller/vmd.ko",
	"kernel/drivers/ata/ahci.ko",
	"kernel/drivers/ata/ata_piix.ko",
	"kernel/drivers/scsi/sd_mod.ko",
	"kernel/drivers/scsi/hv_storvsc.ko",
	"kernel/drivers/scsi/vmw_pvscsi.ko",
	"kernel/drivers/scsi/megaraid/megaraid_sas.ko",
	"kernel/drivers/scsi/mpt3sas/mpt3sas.ko",
	"kernel/drivers/scsi/sr_mod.ko",
	"kernel/drivers/usb/host/xhci-pci.ko",
	"kernel/drivers/usb/host/ehci-pci.ko",
	"kernel/drivers/usb/storage/uas.ko",
	"kernel/arch/x86/crypto/sha256-ssse3.ko",
	"kernel/drivers/md/dm-verity.ko",
	"kernel/fs/squashfs/squashfs.ko",
}

// rootModules are what the root file system has besides: udev loads of them what the machine needs.
var rootModules = append([]string{
	// Disks and their file systems.
	"kernel/drivers/nvme/",
	"kernel/drivers/ata/",
	"kernel/fs/ext4/",
	"kernel/fs/fat/",
	"kernel/fs/isofs/",
	"kernel/fs/nls/nls_ascii.ko",
	"kernel/fs/nls/nls_cp437.ko",
	"kernel/fs/efivarfs/",
	"kernel/fs/autofs/",
	// Network.
	"kernel/drivers/net/virtio_net.ko",
	"kernel/drivers/net/vmxnet3/",
	"kernel/drivers/net/hyperv/",
	"kernel/drivers/net/bonding/",
	"kernel/drivers/net/ethernet/amazon/",
	"kernel/drivers/net/ethernet/amd/",
	"kernel/drivers/net/ethernet/aquantia/",
	"kernel/drivers/net/ethernet/broadcom/",
	"kernel/drivers/net/ethernet/chelsio/",
	"kernel/drivers/net/ethernet/google/",
	"kernel/drivers/net/ethernet/intel/",
	"kernel/drivers/net/ethernet/mellanox/",
	"kernel/drivers/net/ethernet/microsoft/",
	"kernel/drivers/net/ethernet/realtek/",
	"kernel/drivers/net/ethernet/sfc/",
	"kernel/drivers/net/phy/",
	"kernel/net/8021q/",
	"kernel/net/tls/",
	"kernel/net/packet/",
	// Ciphers: of kernel TLS, and what ext4 and the device mapper ask for by name.
	"kernel/arch/x86/crypto/",
	"kernel/crypto/",
	// The machine.
	"kernel/drivers/char/hw_random/",
	"kernel/drivers/char/tpm/",
	"kernel/drivers/firmware/",
	"kernel/drivers/hv/",
	"kernel/drivers/virtio/",
	"kernel/drivers/watchdog/",
	"kernel/drivers/acpi/",
	"kernel/drivers/hid/",
	"kernel/drivers/usb/host/",
	"kernel/drivers/input/",
}, firstModules...)
