#!/bin/bash
# Runs the tests of packages on Debian's own kernel (6.1 on Debian 12) in QEMU: emulated, which
# takes a while, or with ACCEL=kvm.
# usage: [ACCEL=kvm] scripts/test-kernel.sh [-run REGEXP] [PACKAGE...]   (default: what has programs or netlink in it)
set -euo pipefail
cd "$(dirname "$0")/.."

run=.
if [ "${1-}" = -run ]; then
	run=$2
	shift 2
fi
[ $# -gt 0 ] || set -- ./bpf/gate ./bpf/steer ./appliance/network
scripts/deps.sh kernel

version=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: linux-image-//p')
work=out/kernel
mkdir -p $work
if [ ! -e "$work/$version/boot/vmlinuz-$version" ]; then
	(cd $work && apt-get download -q "linux-image-$version" && dpkg -x "linux-image-${version}"_*.deb "$version" && rm ./*.deb)
fi

root=$(mktemp -d)
trap 'rm -rf "$root" "$root.gz" "$root.log"' EXIT
mkdir -p "$root/modules" "$root/tests"
drivers=$work/$version/lib/modules/$version/kernel/drivers/net
cp "$drivers/veth.ko" "$root/modules/10-veth.ko"
cp "$drivers/ethernet/intel/e1000/e1000.ko" "$root/modules/20-e1000.ko"
printf '%s\n' -test.v "-test.run=$run" -test.timeout=60m >"$root/arguments"
emulated=
[ "${ACCEL:-tcg}" != tcg ] || emulated=NFSEAL_EMULATED=1
echo "$emulated" >"$root/environment"
CGO_ENABLED=0 go build -o "$root/init" ./internal/kernelvm
for package in "$@"; do
	to=$root/tests/$(echo "${package#./}" | tr / -)
	mkdir "$to"
	CGO_ENABLED=0 go test -c -o "$to/test" "$package"
	cp -r "$package"/*.h "$package"/testdata "$to" 2>/dev/null || true
done
(cd "$root" && find . | cpio --quiet -o -H newc) | gzip -1 >"$root.gz"
qemu-system-x86_64 -nodefaults -nographic -serial stdio -no-reboot -m 2048 -smp 2 -cpu max -accel "${ACCEL:-tcg}" \
	-kernel "$work/$version/boot/vmlinuz-$version" -initrd "$root.gz" \
	-netdev hubport,id=spare,hubid=0 -device e1000,netdev=spare \
	-append 'console=ttyS0 quiet panic=-1' </dev/null | stdbuf -oL tr -d "\r" | tee "$root.log"
passed=$(grep -c '^kernelvm: .*: passed$' "$root.log" || true)
[ "$passed" = $# ] || { echo "test-kernel: $passed of $# packages passed" >&2; exit 1; }
