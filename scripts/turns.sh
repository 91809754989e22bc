#!/bin/bash
# Measures builds of nfseald one after the other, in turns, each in a new data directory, driven by bin/nfseal bench: what a
# change gains. Prints a line for each build and workload: the medians of operations a second and of the daemon's processor time,
# and behind them the rates of all turns. As root. usage: [NFSEALD_FLAGS=...] scripts/turns.sh DIRECTORY TURNS DAEMON... -- ARGUMENTS OF nfseal bench...
set -euo pipefail
cd "$(dirname "$0")/.."

data=$(realpath -m "${1:?directory for the data}")/turns
turns=${2:?how many turns}
shift 2
daemons=()
while [ "${1:?-- and arguments of nfseal bench}" != -- ]; do
	daemons+=("$(realpath "$1")")
	shift
done
shift
netns=nfseal-turns-$$
daemon=

stop() {
	[ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || true
	daemon=
	ip netns delete "$netns" 2>/dev/null || true
	rm -rf "$data" "$data.log"
}
trap stop EXIT

# turn measures one build once.
turn() {
	mkdir -p "$data"
	ip netns add "$netns"
	ip -n "$netns" link set lo up
	ip netns exec "$netns" sysctl -qw net.ipv4.tcp_congestion_control=reno
	ip netns exec "$netns" "$1" -data "$data" -listen 127.0.0.1:2049 -ocsp-listen 127.0.0.1:2050 \
		-volume-size 8GiB ${NFSEALD_FLAGS:-} >"$data.log" 2>&1 &
	daemon=$!
	for _ in $(seq 100); do
		[ ! -S "$data/api.sock" ] || break
		sleep 0.1
	done
	[ -S "$data/api.sock" ] || { cat "$data.log" >&2; exit 1; }
	ip netns exec "$netns" bin/nfseal bench -data "$data" -rounds 1 "${@:2}" |
		awk -v build="$1" '$2 == "nfseal" { print build, $1, $3, us($7) } function us(d) { return d ~ /ms$/ ? d * 1000 : d + 0 }'
	stop
}

# medians reads lines of a build, a workload, a rate and a time, in the order of the first two and of the rates.
medians() {
	awk '
		function middle(list, n) { return n % 2 ? list[(n+1)/2] : (list[n/2] + list[n/2+1]) / 2 }
		function sort(list, n, i, j, x) {
			for (i = 2; i <= n; i++) { x = list[i]; for (j = i-1; j > 0 && list[j] > x; j--) list[j+1] = list[j]; list[j+1] = x }
		}
		function end() {
			if (!n) return
			sort(rate, n); sort(cpu, n)
			printf "%-24s %-40s %8.0f op/s %8.1f us of its processor; all turns:", work, build, middle(rate, n), middle(cpu, n)
			for (i = 1; i <= n; i++) printf " %d", rate[i]
			print ""
			n = 0
		}
		$1 != build || $2 != work { end() }
		{ build = $1; work = $2; rate[++n] = $3 + 0; cpu[n] = $4 + 0 }
		END { end() }'
}

echo "machine: $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), $(nproc) cores, Linux $(uname -r)"
for _ in $(seq "$turns"); do
	for build in "${daemons[@]}"; do
		turn "$build" "$@"
	done
done | sort -k2,2 -k1,1 | medians
