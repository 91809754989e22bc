#!/bin/bash
# The image in QEMU, with its data on a second disk in out/vm, which the next start finds again. The serial
# console is this terminal; Ctrl-A X ends it. Ports of this machine's loopback: 2049, 2050 and 2051.
# usage: scripts/vm.sh [qemu's arguments...]
set -euo pipefail
cd "$(dirname "$0")/.."
image=out/image/nfseal.qcow2
dir=out/vm
mkdir -p $dir
[ -e $image ] || { echo "vm: no $image: make image" >&2; exit 1; }
[ -e $dir/vars.fd ] || cp /usr/share/OVMF/OVMF_VARS_4M.fd $dir/vars.fd
[ -e $dir/data.qcow2 ] || qemu-img create -q -f qcow2 $dir/data.qcow2 "${DISK:-8G}"
accel=tcg,thread=multi cpu=max
# A processor of the host's kind where its kernel lets us; VM_ACCEL=tcg emulates one all the same.
if [ -w /dev/kvm ] && [ "${VM_ACCEL:-kvm}" = kvm ]; then accel=kvm cpu=host; fi
exec qemu-system-x86_64 -machine q35 -accel $accel -cpu $cpu -smp 2 -m "${MEMORY:-1024}" \
	-drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd \
	-drive if=pflash,format=raw,unit=1,file=$dir/vars.fd \
	-drive if=none,id=system,file=$image,format=qcow2,snapshot=on -device nvme,serial=system,drive=system \
	-drive if=none,id=data,file=$dir/data.qcow2,format=qcow2,discard=unmap -device nvme,serial=data,drive=data \
	-netdev user,id=net,hostfwd=tcp:127.0.0.1:2049-:2049,hostfwd=tcp:127.0.0.1:2050-:2050,hostfwd=tcp:127.0.0.1:2051-:2051 \
	-device virtio-net-pci,netdev=net -device virtio-rng-pci -display none -serial mon:stdio "$@"
