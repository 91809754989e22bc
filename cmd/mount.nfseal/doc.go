// Command mount.nfseal mounts a file system of an nfseal server over TLS. It is the helper that
// mount(8) runs for "mount -t nfseal", and is installed as /sbin/mount.nfseal.
//
// # What it does
//
//	mount.nfseal SPEC DIR -o …
//	  1  reads /etc/nfseal/mount.conf and the options; refuses what it doesn't know
//	  2  makes one verified connection to the server and closes it: what is wrong with the
//	     server or its certificate is said now, in one sentence
//	  3  starts a tunnel process (itself, as "mount.nfseal tunnel"), which listens on 127.0.0.1
//	  4  calls mount(2) with that port; nfs-common is not needed
//	  5  tells the tunnel that the mount stands, and leaves
//
// If 4 fails the tunnel is ended before the error is printed. Nothing then stays behind.
//
// # The two processes
//
// The tunnel process reads its settings (one JSON document) from standard input and writes its
// port, or an error, to file descriptor 3. Standard input stays open: the word "mounted" on it
// means that the mount stands; its end before that means that the tunnel isn't wanted any more, so
// a killed mount helper leaves no tunnel. Afterwards the tunnel watches /proc/self/mountinfo and ends
// when its mount is gone and the kernel has closed its connections; after a lazy unmount
// they last as long as files are open.
//
// While it runs, /run/nfseal/<port>.json (directory 0700) says who it is. Both processes log to
// /var/log/nfseal/mount.log.
//
// Exit statuses are those of mount(8): 0, 1 (wrong usage or no permission), 2 (system error), 32 (mount failed).
package main
