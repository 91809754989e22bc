#!/bin/bash
# Runs every fuzz target of the module for a while, one after the other.
# usage: scripts/fuzz.sh SECONDS [PACKAGE PATTERN...]
set -euo pipefail

seconds=${1:?seconds for each target}
shift
found=0
for package in $(go list "${@:-./...}"); do
	dir=$(go list -f '{{.Dir}}' "$package")
	targets=$(cat "$dir"/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p')
	for target in $targets; do
		found=$((found + 1))
		echo "fuzz: $package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${seconds}s" "$package"
	done
done
if [ $found = 0 ]; then
	echo "fuzz: no targets found" >&2
	exit 1
fi
echo "fuzz: $found targets, ${seconds} s each"
