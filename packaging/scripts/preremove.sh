#!/bin/sh
# "remove" is dpkg's word, 0 is rpm's, for a removal that is not an upgrade. A mount without a tunnel would hang.
set -e
[ "$1" = remove ] || [ "$1" = 0 ] || exit 0
if ls /run/nfseal/*.json >/dev/null 2>&1; then
	echo "nfseal-client: file systems of nfseal are mounted; unmount them first (findmnt -t nfs4)" >&2
	exit 1
fi
if [ -d /run/systemd/system ]; then
	systemctl stop nfseal-tunnels.service || true
fi
