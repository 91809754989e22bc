#!/bin/bash
# Two versions of the image with all that can be signed, 0.1 in old and 0.2 in new, for make rig-upgrade. The keys are
# made once and stay beside them.
# usage: scripts/rig-versions.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$1
mkdir -p "$dir"
[ -e "$dir/key.pem" ] || openssl genpkey -algorithm ed25519 -out "$dir/key.pem"
[ -e "$dir/policy.pem" ] || openssl genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048 -out "$dir/policy.pem" 2>/dev/null
[ -e "$dir/boot.pem" ] || openssl req -new -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=nfseal-rig \
	-keyout "$dir/boot.key" -out "$dir/boot.pem" 2>/dev/null
build() {
	go run ./image/build -out "$dir/$1" -version "$2" -sign "$dir/key.pem" -policy-key "$dir/policy.pem" \
		-secure-boot-key "$dir/boot.key" -secure-boot-cert "$dir/boot.pem"
}
build old 0.1
build new 0.2
