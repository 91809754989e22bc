#!/bin/bash
# Builds the client's packages, deb and rpm, for GOARCH (default: this machine's) into DIRECTORY.
# usage: scripts/packages.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."

out=$(realpath -m "${1:?directory for the packages}")
GOARCH=${GOARCH:-$(go env GOARCH)}
STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT

# A version must begin with a digit; commits that no tag names come before every release.
described=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
epoch=$(git log -1 --format=%ct 2>/dev/null || echo 0)
case $described in
v[0-9]*) PACKAGE_VERSION=$(tr - . <<<"${described#v}") ;;
*) PACKAGE_VERSION=0.0.0~git$(date -u -d "@$epoch" +%Y%m%d).$(tr - . <<<"$described") ;;
esac
PACKAGE_MTIME=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
export GOARCH

# For the packages' machine; nfpm itself runs on this one.
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$PACKAGE_VERSION" -o "$STAGE/mount.nfseal" ./cmd/mount.nfseal
for page in packaging/man/*.[58]; do
	gzip -9n <"$page" >"$STAGE/$(basename "$page").gz"
done
mkdir -p "$out"
# nfpm is built for this machine, whatever the packages are for.
GOARCH='' go build -modfile=packaging/nfpm.mod -buildvcs=false -o "$STAGE/nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm
sed -e "s|\${STAGE}|$STAGE|" -e "s|\${GOARCH}|$GOARCH|" -e "s|\${PACKAGE_VERSION}|$PACKAGE_VERSION|" \
	-e "s|\${PACKAGE_MTIME}|$PACKAGE_MTIME|" packaging/nfpm.yaml >"$STAGE/nfpm.yaml"
for format in deb rpm; do
	"$STAGE/nfpm" package -f "$STAGE/nfpm.yaml" -p $format -t "$out"
done
