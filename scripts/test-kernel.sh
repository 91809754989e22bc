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
if [ -n "$suite" ]; then # with lists of its own, beside this machine's
	meta=linux-image-cloud-amd64
	export APT_CONFIG=$work/$suite.conf
	mkdir -p "$work/$suite/lists/partial" "$work/$suite/archives/partial"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" >"$work/$suite/sources.list"
	: >"$work/$suite/status"
	cat >"$APT_CONFIG" <<-END
		Dir::Etc::sourcelist "$work/$suite/sources.list";
		Dir::Etc::sourceparts "-";
		Dir::State::lists "$work/$suite/lists";
		Dir::State::status "$work/$suite/status";
		Dir::Cache "$work/$suite";
		APT::Sandbox::User "root";
	END
	apt-get update -qq
fi
version=$(apt-cache depends "$meta" | sed -n 's/.*Depends: linux-image-//p' | head -n 1)
tree=$work/$version
if [ ! -e "$tree.complete" ]; then
	# The image alone, or what it is made of.
	parts=$(apt-cache depends "linux-image-$version" | sed -n 's/.*Depends: \(linux-\(binary\|modules\)-.*\)/\1/p')
	for part in "linux-image-$version" $parts; do
		(cd "$work" && apt-get download -q "$part" && dpkg -x "${part}"_*.deb "$version" && rm "${part}"_*.deb)
	done
	[ -e "$tree/lib" ] || ln -s usr/lib "$tree/lib"
	depmod -b "$tree" "$version" 2>/dev/null # it misses lists of what is built in
	touch "$tree.complete"
fi
kernel=$(find "$tree" -name 'vmlinuz*' -type f)

root=$(mktemp -d)
trap 'rm -rf "$root" "$root.gz" "$root.log"' EXIT
mkdir -p "$root/modules" "$root/tests"
number=100
for module in veth e1000 tls gcm aesni_intel; do # a kernel that has one built in, or not at all, does without
	{ modprobe -d "$tree" -S "$version" --show-depends "$module" 2>/dev/null || true; } | while read -r _ path _; do
		name=$(basename "$path")
		if [ ! -e "$path" ] || compgen -G "$root/modules/*-${name%.xz}" >/dev/null; then continue; fi
		case $name in
		*.xz) xz -dc "$path" >"$root/modules/$number-${name%.xz}" ;;
		*) cp "$path" "$root/modules/$number-$name" ;;
		esac
		number=$((number + 1))
	done
	number=$((number + 100))
done
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
