#!/bin/bash
# The checks of test-client.sh, in its guest, on the host's programs. It may write to /mnt alone.
# usage: test-client-guest.sh SERVER_NAME NAME_OF_ONE_THAT_WANTS_CERTIFICATES DIRECTORY_OF_TLSHD CONFIGURATION_OF_TLSHD
set -euo pipefail

name=$1 known=$2 tlshd=$3 conf=$4
uname -r

# fails COMMAND...: it does. (A command behind ! does not end a script.)
fails() {
	if "$@" 2>/dev/null; then
		echo "this should have failed: $*"
		exit 1
	fi
}

# check DIRECTORY: what programs do with files.
check() {
	cd "$1"
	head -c 5000000 /dev/urandom >/mnt/content
	cp /mnt/content a
	sync a
	echo 3 >/proc/sys/vm/drop_caches
	cmp /mnt/content a
	cp a b
	echo more >>b
	[ "$(stat -c %s b)" = 5000005 ]
	truncate -s 10 b
	[ "$(head -c 10 /mnt/content | md5sum)" = "$(md5sum <b)" ]
	touch -d '2001-02-03 04:05:06 UTC' b
	[ "$(stat -c %Y b)" = 981173106 ]
	chmod 600 b
	[ "$(stat -c %a b)" = 600 ]
	mkfifo fifo
	(echo through >fifo &)
	[ "$(cat fifo)" = through ]
	mkdir d
	for k in $(seq 300); do echo "$k" >d/$k; done
	[ "$(ls d | wc -l)" = 300 ]
	mv d e
	ln -s e link
	[ "$(cat link/300)" = 300 ]
	fails mv -T a e
	(flock -n 9 && ! flock -n a true) 9<>a
	rm -r e link a b fifo
	[ -z "$(ls)" ]
	cd /
}

# check42 DIRECTORY: what minor version 2 has.
check42() {
	cd "$1"
	cp /mnt/content a
	cp --reflink=always a clone
	cmp a clone
	fallocate -l 1MiB room
	fallocate -p -o 4096 -l 8192 a
	[ "$(stat -c %s room)" = 1048576 ]
	fails cmp -s a clone
	rm a clone room
	cd /
}

# mount_from SERVER_NAME OPTIONS DIRECTORY
mount_from() { mount -i -t nfs4 -o "$2,addr=10.0.2.2,clientaddr=10.0.2.15" "$1:/" "$3"; }

# mount_and_check LABEL OPTIONS [SERVER_NAME]
mount_and_check() {
	local dir=/mnt/$1
	mkdir "$dir"
	mount_from "${3:-$name}" "$2" "$dir"
	mkdir "$dir/here"
	check "$dir/here"
	[[ $2 != vers=4.2* ]] || check42 "$dir/here"
	rmdir "$dir/here"
	grep -A1 "mounted on $dir with" /proc/self/mountstats | tail -n 1
	umount "$dir"
	echo "$1: passed"
}

for minor in 0 1 2; do
	mount_and_check "plain-4.$minor" "vers=4.$minor"
done
libraries=$tlshd/usr/lib/x86_64-linux-gnu
"$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$tlshd/usr/sbin/tlshd" -s -c "$conf" &
sleep 5
for minor in 1 2; do
	mount_and_check "tls-4.$minor" "vers=4.$minor,xprtsec=tls"
done
mount_and_check mtls-4.2 vers=4.2,xprtsec=mtls,port=2052 "$known"
mkdir /mnt/refused
fails mount_from "$known" vers=4.2,xprtsec=tls,port=2052 /mnt/refused
fails mount_from "$known" vers=4.2,port=2052 /mnt/refused
grep TlsRxSw /proc/net/tls_stat
dmesg >/mnt/messages
fails grep -E 'BUG:|Oops|WARNING:' /mnt/messages
