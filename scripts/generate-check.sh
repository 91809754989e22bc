#!/bin/bash
# Generates the BPF objects and their Go anew, beside the tree, and fails if they differ from what is committed.
# Other compilers make other objects, so it compares only with the one that made them.
set -euo pipefail
cd "$(dirname "$0")/.."

major=14 # Debian 12's
if ! command -v clang >/dev/null || ! command -v llvm-strip >/dev/null; then
	echo 'generate-check: not compared: no clang and llvm-strip (apt-get install clang llvm)' >&2
	exit 0
fi
version=$(clang -dumpversion)
if [ "${version%%.*}" != $major ]; then
	echo "generate-check: not compared: clang is $version, and the objects are made with Debian 12's clang $major" >&2
	exit 0
fi
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp go.mod go.sum "$copy"
cp -r bpf "$copy/bpf"
find "$copy/bpf" -name '*_bpfe[lb].*' -delete
(cd "$copy" && go generate ./bpf/...)
diff -r bpf "$copy/bpf" || {
	echo 'generate-check: what is committed is not what the sources make: run make generate' >&2
	exit 1
}
