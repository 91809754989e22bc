#!/bin/bash
# Runs the tests of packages in QEMU on a kernel of Debian's: this machine's own version of Debian's (6.1 on Debian 12), or
# the newest of another suite, such as trixie-backports. Emulated, which takes a while, or with ACCEL=kvm.
# usage: [ACCEL=kvm] [CPUS=2] scripts/test-kernel.sh [-suite SUITE] [-run REGEXP] [PACKAGE...]
#        (default: what has programs or netlink in it)
set -euo pipefail
cd "$(dirname "$0")/.."

run=.
suite=
while [[ ${1-} = -run || ${1-} = -suite ]]; do
	declare "${1#-}=$2"
	shift 2
done
[ $# -gt 0 ] || set -- ./bpf/gate ./bpf/steer ./appliance/network
scripts/deps.sh kernel

work=$PWD/out/kernel
meta=linux-image-amd64
mkdir -p "$work"
. scripts/debian-kernel.sh
if [ -n "$suite" ]; then
	meta=linux-image-cloud-amd64
	use_suite "$suite"
fi
fetch_kernel "$meta"

root=$(mktemp -d)
trap 'rm -rf "$root" "$root.gz" "$root.log"' EXIT
mkdir -p "$root/modules" "$root/tests"
copy_modules "$root/modules" veth e1000 tls gcm aesni_intel
printf '%s\n' -test.v "-test.run=$run" -test.timeout=60m >"$root/arguments"
ktls=require
[ -z "$suite" ] || ktls=rekey
emulated=
[ "${ACCEL:-tcg}" != tcg ] || emulated=NFSEAL_EMULATED=1
echo "$emulated NFSEAL_KTLS=$ktls" >"$root/environment"
CGO_ENABLED=0 go build -o "$root/init" ./internal/kernelvm
for package in "$@"; do
	to=$root/tests/$(echo "${package#./}" | tr / -)
	mkdir "$to"
	CGO_ENABLED=0 go test -c -o "$to/test" "$package"
	cp -r "$package"/*.h "$package"/testdata "$to" 2>/dev/null || true
done
(cd "$root" && find . | cpio --quiet -o -H newc) | gzip -1 >"$root.gz"
qemu-system-x86_64 -nodefaults -nographic -serial stdio -no-reboot -m 2048 -smp "${CPUS:-2}" -cpu max -accel "${ACCEL:-tcg}" \
	-kernel "$kernel" -initrd "$root.gz" \
	-netdev hubport,id=spare,hubid=0 -device e1000,netdev=spare \
	-append 'console=ttyS0 quiet panic=-1' </dev/null | stdbuf -oL tr -d "\r" | tee "$root.log"
passed=$(grep -c '^kernelvm: .*: passed$' "$root.log" || true)
[ "$passed" = $# ] || { echo "test-kernel: $passed of $# packages passed" >&2; exit 1; }
