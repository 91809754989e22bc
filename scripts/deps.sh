#!/bin/bash
# Installs what Debian has and nfseal's demo or tests need, and is silent when nothing is missing.
# usage: scripts/deps.sh [demo|test|race|kernel|bench|image]
set -euo pipefail

want=${1:-test}
missing=()

# need PACKAGE TEST...: the package is missing unless the test succeeds.
need() {
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}

has() { PATH=$PATH:/usr/sbin:/sbin command -v "$1"; }

# The kernel's client in a process, where this kernel has no NFS.
[ "$(id -u)" != 0 ] || modprobe -q nfsv4 2>/dev/null || true
if [ "$want" != image ] && { ! grep -qw nfs4 /proc/filesystems || [ "$want" != demo ]; }; then
	need user-mode-linux has linux.uml
	if grep -qw amx_tile /proc/cpuinfo; then # see internal/uml/xstate.c
		need gcc has cc
		need libc6-dev test -e /usr/include/stdlib.h
	fi
fi
if [ "$want" != demo ] && [ "$want" != image ]; then
	# Servers and tools of others that ours are held against.
	need nfs-ganesha has ganesha.nfsd
	need nfs-ganesha-vfs compgen -G '/usr/lib/*/ganesha/libfsalvfs.so'
	need nfs-common has mount.nfs
	need nfs4-acl-tools has nfs4_getfacl
	need openssl has openssl
	need curl has curl
	need awscli test -x /usr/bin/aws # beside another version, if there is one in the path
	need stunnel4 has stunnel4
	need git has git
	need sqlite3 has sqlite3
	need procps has pgrep
	need fio has fio
	need haproxy has haproxy
	need mmdebstrap has mmdebstrap
	need rpm has rpm
	need python3-cryptography /usr/bin/python3 -c 'import cryptography'
	need swtpm has swtpm
	# The build that speaks to PKCS#11 tokens takes C.
	need softhsm2 has softhsm2-util
	need gcc has gcc
	need libc6-dev test -e /usr/include/stdlib.h
	need rsyslog has rsyslogd
	need iproute2 has ip
	need nftables has nft
	# What made the committed BPF objects, to see that nothing differs.
	need clang has clang
	need llvm has llvm-strip
fi
if [ "$want" = image ] || [ "$want" = test ] || [ "$want" = race ]; then
	# The image, and what it is run in.
	need mmdebstrap has mmdebstrap
	need squashfs-tools has mksquashfs
	need cryptsetup-bin has veritysetup
	need systemd-boot-efi test -e /usr/lib/systemd/boot/efi/linuxx64.efi.stub
	need binutils has objcopy
	need kmod has depmod
	need mtools has mcopy
	need dosfstools has mkfs.vfat
	need fdisk has sfdisk
	need sbsigntool has sbsign
	need zstd has zstd
	need cpio has cpio
	need qemu-utils has qemu-img
	need qemu-system-x86 has qemu-system-x86_64
	need dnsmasq-base has dnsmasq
	need xorriso has xorriso
	need e2fsprogs has mkfs.ext4
	need ovmf test -e /usr/share/OVMF/OVMF_CODE_4M.fd
fi
if [ "$want" = kernel ]; then
	need qemu-system-x86 has qemu-system-x86_64
	need cpio has cpio
	need kmod has depmod
	need xz-utils has xz
	need busybox-static test -x /bin/busybox
fi
if [ "$want" = bench ]; then
	# To compare with.
	need nginx-light has nginx
	need libnginx-mod-stream test -e /usr/lib/nginx/modules/ngx_stream_module.so
	need gocryptfs has gocryptfs
	need fuse has fusermount
fi
if [ "$want" = race ]; then
	need gcc has gcc
	need libc6-dev test -e /usr/include/stdlib.h
fi

[ ${#missing[@]} -eq 0 ] && exit 0

echo "deps: missing: ${missing[*]}"
if [ "$(id -u)" != 0 ]; then
	echo "deps: to install them, as root: apt-get install --no-install-recommends ${missing[*]}" >&2
	exit 1
fi
if ! command -v apt-get >/dev/null; then
	echo "deps: this is not Debian: install what these packages hold by hand" >&2
	exit 1
fi

# Installing a server must not start it: it would take port 2049.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq </dev/null
apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null
