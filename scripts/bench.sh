#!/bin/bash
# Measures nfseald over TLS and without it beside nfs-ganesha, plain, behind nginx, and behind stunnel with
# its files in gocryptfs, driven by the same client in the same run. As root. In a network namespace of its own: loopback is not paced there, whatever the
# system's congestion control is.
# usage: [NFSEALD_FLAGS="-idle-poll"] scripts/bench.sh DIRECTORY [ARGUMENTS OF nfseal bench...]
set -euo pipefail
cd "$(dirname "$0")/.."

data=$(realpath -m "${1:?directory for the data}")/bench
shift
netns=nfseal-bench-$$
daemon=

finish() {
	[ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || true
	ip netns delete "$netns" 2>/dev/null || true
	rm -rf "$data"
}
trap finish EXIT

rm -rf "$data"
mkdir -p "$data"
ip netns add "$netns"
ip -n "$netns" link set lo up
ip -n "$netns" address add 10.99.250.1/32 dev lo
ip netns exec "$netns" sysctl -qw net.ipv4.tcp_congestion_control=reno

ip netns exec "$netns" bin/nfseald -data "$data" -listen 127.0.0.1:2049 -ocsp-listen 127.0.0.1:2050 \
	-volume-size 8GiB -allow-plaintext ${NFSEALD_FLAGS:-} >"$data.log" 2>&1 &
daemon=$!
for _ in $(seq 100); do
	[ ! -S "$data/api.sock" ] || break
	sleep 0.1
done
[ -S "$data/api.sock" ] || { cat "$data.log" >&2; exit 1; }

echo "machine: $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), $(nproc) cores, Linux $(uname -r)"
ip netns exec "$netns" bin/nfseal bench -data "$data" -plain -compare "$@"
