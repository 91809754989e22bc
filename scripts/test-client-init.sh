#!/bin/busybox sh
# The first process in the machine of test-client.sh: it sees to modules, network and the host's files, and runs the checks.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /modules/*; do
	$b insmod "$module" || echo "init: $module is not loaded"
done
$b ip link set lo up
$b ip link set eth0 up
$b ip address add 10.0.2.15/24 dev eth0
. /settings
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro host /host
$b mount --bind /proc /host/proc
$b mount --bind /sys /host/sys
$b mount --bind /dev /host/dev
$b mount -t tmpfs mnt /host/mnt
if $b chroot /host /bin/bash "$checks" "$name" "$known" "$tlshd" "$conf"; then
	echo "test-client: passed"
fi
$b poweroff -f
