#!/bin/bash
# The NFS client of a newer kernel of Debian's against nfseald of this tree, in QEMU, emulated: in the clear at all minor versions, and over
# the kernel's own TLS (RFC 9289) with tlshd of ktls-utils, without a certificate of the client's and with one. As root, in a network
# namespace of its own; some minutes.
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
pids=()
finish() {
	[ ${#pids[@]} = 0 ] || { kill "${pids[@]}" && wait "${pids[@]}"; } 2>/dev/null || true
	ip netns delete "$netns" 2>/dev/null || true
	rm -rf "$data"
}
trap finish EXIT

# serve DIRECTORY PORT ARGUMENTS...: a daemon with a file system, whose name $name is.
serve() {
	local dir=$1 port=$2
	shift 2
	ip netns exec "$netns" bin/nfseald -data "$dir" -listen "127.0.0.1:$port" -ocsp-listen "127.0.0.1:$((port + 1))" -api-listen off \
		-volume-size 1GiB "$@" >"$dir.log" 2>&1 &
	pids+=($!)
	for _ in $(seq 100); do
		[ ! -S "$dir/api.sock" ] || break
		sleep 0.1
	done
	name=$(bin/nfseal fs create -data "$dir" -name client 2>/dev/null).efs.local-1.nfseal.internal
}

# certify DIRECTORY: a CA, a client's certificate of it, and an OCSP responder that calls that good.
certify() {
	local dir=$1
	mkdir "$dir"
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$dir/ca.key" -out "$dir/ca.pem" -days 2 -subj '/CN=CA of clients' \
		-addext keyUsage=critical,keyCertSign,digitalSignature 2>/dev/null
	openssl req -new -newkey rsa:2048 -nodes -keyout "$dir/client.key" -out "$dir/client.csr" -subj /CN=client 2>/dev/null
	cat >"$dir/extensions" <<-END
		basicConstraints=CA:false
		keyUsage=digitalSignature
		extendedKeyUsage=clientAuth
		subjectAltName=IP:127.0.0.1
		authorityInfoAccess=OCSP;URI:http://127.0.0.1:2060/
	END
	openssl x509 -req -in "$dir/client.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -extfile "$dir/extensions" -set_serial 0x1001 -days 1 \
		-out "$dir/client.pem" 2>/dev/null
	printf 'V\t%s\t\t1001\tunknown\t/CN=client\n' "$(date -u -d tomorrow +%y%m%d%H%M%SZ)" >"$dir/index"
	ip netns exec "$netns" openssl ocsp -port 2060 -index "$dir/index" -CA "$dir/ca.pem" -rsigner "$dir/ca.pem" -rkey "$dir/ca.key" -nmin 60 \
		>"$dir/log" 2>&1 &
	pids+=($!)
}

root=$data/root
mkdir -p "$root"/{bin,dev,host,modules,proc,sys,tmp}
cp /bin/busybox "$root/bin/"
cp scripts/test-client-init.sh "$root/init"
copy_modules "$root/modules" virtio_pci virtio_net 9p 9pnet_virtio nfsv4 rpcsec_gss_krb5 tls gcm aesni_intel

ip netns add "$netns"
ip -n "$netns" link set lo up
certify "$data/clients"
serve "$data/known" 2052 -client-ca "$data/clients/ca.pem"
known=$name
serve "$data/any" 2049 -allow-plaintext
cat "$data"/{known,any}/pki/ca.pem >"$data/servers.pem"
cat >"$data/tlshd.conf" <<-END
	[authenticate.client]
	x509.truststore=$data/servers.pem
	x509.certificate=$data/clients/client.pem
	x509.private_key=$data/clients/client.key
END
cat >"$root/settings" <<-END
	name=$name
	known=$known
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
	tail -n 20 "$data"/*.log >&2
	echo "test-client: it did not pass" >&2
	exit 1
fi
