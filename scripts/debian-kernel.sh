# Sourced: kernels of Debian's, for machines in QEMU. What it gets stays in $work, which the caller sets.

# use_suite SUITE: apt is about that suite of Debian's, with lists of its own, beside this machine's.
use_suite() {
	export APT_CONFIG=$work/$1.conf
	mkdir -p "$work/$1/lists/partial" "$work/$1/archives/partial"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $1 main" >"$work/$1/sources.list"
	: >"$work/$1/status"
	cat >"$APT_CONFIG" <<-END
		Dir::Etc::sourcelist "$work/$1/sources.list";
		Dir::Etc::sourceparts "-";
		Dir::State::lists "$work/$1/lists";
		Dir::State::status "$work/$1/status";
		Dir::Cache "$work/$1";
		APT::Sandbox::User "root";
	END
	apt-get update -qq
}

# unpack DIRECTORY PACKAGE...: what is in the newest versions of packages, and nothing is installed.
unpack() {
	local to=$1 package
	shift
	for package in "$@"; do
		(cd "$work" && apt-get download -q "$package" && dpkg -x "${package}"_*.deb "$to" && rm "${package}"_*.deb)
	done
}

# fetch_kernel META: sets version, tree and kernel for the kernel that a package stands for.
fetch_kernel() {
	local parts
	version=$(apt-cache depends "$1" | sed -n 's/.*Depends: linux-image-//p' | head -n 1)
	tree=$work/$version
	if [ ! -e "$tree.complete" ]; then
		# The image alone, or what it is made of.
		parts=$(apt-cache depends "linux-image-$version" | sed -n 's/.*Depends: \(linux-\(binary\|modules\)-.*\)/\1/p')
		unpack "$version" "linux-image-$version" $parts
		[ -e "$tree/lib" ] || ln -s usr/lib "$tree/lib"
		depmod -b "$tree" "$version" 2>/dev/null # it misses lists of what is built in
		touch "$tree.complete"
	fi
	kernel=$(find "$tree" -name 'vmlinuz*' -type f)
}

# copy_modules DIRECTORY MODULE...: modules and what they need, named in the order of their loading. A kernel that has one built in, or
# not at all, does without.
copy_modules() {
	local to=$1 module path name number=100
	shift
	for module in "$@"; do
		while read -r _ path _; do
			name=$(basename "$path" .xz)
			if [ ! -e "$path" ] || compgen -G "$to/*-$name" >/dev/null; then continue; fi
			case $path in
			*.xz) xz -dc "$path" >"$to/$number-$name" ;;
			*) cp "$path" "$to/$number-$name" ;;
			esac
			number=$((number + 1))
		done < <(modprobe -d "$tree" -S "$version" --show-depends "$module" 2>/dev/null || true)
	done
}
