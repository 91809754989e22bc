#!/bin/bash
# The NFS client of a newer kernel of Debian's against nfseald of this tree, in QEMU, emulated: in the clear at all minor versions, and over
# the kernel's own TLS (RFC 9289) with tlshd of ktls-utils. As root, in a network namespace of its own; some minutes.
# usage: scripts/test-client.sh [SUITE of Debian, sid if none is named]
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${1:-sid}
scripts/deps.sh kernel
make -s build
work=$PWD/out/kernel
mkdir -p "$work"
. scripts/debian-kernel.sh
use_suite "$suite"
fetch_kernel linux-image-amd64
tlshd=$work/tlshd-$suite
if [ ! -e "$tlshd.complete" ]; then # with all libraries: this machine's may be older
	unpack "$tlshd" ktls-utils $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
		ktls-utils | grep '^lib' | sort -u)
	touch "$tlshd.complete"
fi

netns=nfseal-client-$$
data=$(mktemp -d)
daemon=
finish() {
	[ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || true
	ip netns delete "$netns" 2>/dev/null || true
	rm -rf "$data"
}
trap finish EXIT

root=$data/root
mkdir -p "$root"/{bin,dev,host,modules,proc,sys,tmp}
cp /bin/busybox "$root/bin/"
cp scripts/test-client-init.sh "$root/init"
copy_modules "$root/modules" virtio_pci virtio_net 9p 9pnet_virtio nfsv4 rpcsec_gss_krb5 tls gcm aesni_intel

ip netns add "$netns"
ip -n "$netns" link set lo up
ip netns exec "$netns" bin/nfseald -data "$data/data" -listen 127.0.0.1:2049 -ocsp-listen 127.0.0.1:2050 -api-listen off \
	-volume-size 1GiB -allow-plaintext >"$data/log" 2>&1 &
daemon=$!
for _ in $(seq 100); do
	[ ! -S "$data/data/api.sock" ] || break
	sleep 0.1
done
fs=$(bin/nfseal fs create -data "$data/data" -name client 2>/dev/null)
cat >"$data/tlshd.conf" <<-END
	[authenticate.client]
	x509.truststore=$data/data/pki/ca.pem
END
cat >"$root/settings" <<-END
	name=$fs.efs.local-1.nfseal.internal
	tlshd=$tlshd
	conf=$data/tlshd.conf
	checks=$PWD/scripts/test-client-guest.sh
END
(cd "$root" && find . | cpio --quiet -o -H newc) | gzip -1 >"$data/root.gz"

# The guest reads this machine's root directory, and changes nothing in it; 10.0.2.2 is the loopback address of the namespace.
ip netns exec "$netns" timeout 1200 qemu-system-x86_64 -nodefaults -nographic -serial stdio -no-reboot -m 1024 -cpu max,la57=off -accel "${ACCEL:-tcg}" \
	-kernel "$kernel" -initrd "$data/root.gz" \
	-netdev user,id=net -device virtio-net-pci,netdev=net,romfile= \
	-virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
	-append 'console=ttyS0 quiet panic=-1 cryptomgr.notests=1 clocksource=hpet' </dev/null | stdbuf -oL tr -d '\r' | tee "$data/guest.log"
if ! grep -q '^test-client: passed$' "$data/guest.log"; then
	tail -n 20 "$data/log" >&2
	echo "test-client: it did not pass" >&2
	exit 1
fi
