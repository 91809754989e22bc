// Command mount.nfseal mounts a file system of an nfseal server over TLS. It is the helper that
// mount(8) runs for "mount -t nfseal", and is installed as /sbin/mount.nfseal.
//
// # What it does
//
//	mount.nfseal SPEC DIR -o …
//	  1  reads /etc/nfseal/mount.conf and the options; refuses what it doesn't know
//	  2  makes one verified connection to the server and closes it: what is wrong with the
//	     server or its certificate is said now, in one sentence
//	  3  asks the supervisor for a tunnel, which listens on 127.0.0.1; starts the supervisor if there is none
//	  4  calls mount(2) with that port; nfs-common is not needed
//	  5  tells the supervisor that the mount stands, and leaves
//
// If 4 fails the tunnel is ended before the error is printed. Nothing then stays behind.
//
// # The processes
//
// The same program is the supervisor ("mount.nfseal supervise", one for all mounts, see package
// proxy/tunnel/supervisor) and the tunnel of a mount ("mount.nfseal tunnel FILE"), which the supervisor starts, restarts,
// and ends when its mount is gone. Where systemd runs and has nfseal-tunnels.service, that is the
// supervisor, and systemd restarts it. Elsewhere it is a daemon that the first mount starts and that ends
// after the last; a standby process waits to take its place, and tunnels start a new one if both are dead.
//
// A client certificate is made afresh for each connection to the server, from the credentials file as it is
// then: so none ages, and a changed access key is used from the next connection on.
//
// All processes log to /var/log/nfseal/mount.log; the supervisor's files are in /run/nfseal (mode 0700).
//
// Exit statuses are those of mount(8): 0, 1 (wrong usage or no permission), 2 (system error), 32 (mount failed).
package main
