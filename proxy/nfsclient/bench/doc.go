// Package bench measures NFSv4.1 servers through package nfsclient: throughput and latency of reads and
// writes, attributes, files created and removed, directories listed. Several servers are measured in
// turn, workload by workload, so that what else the machine does falls on all of them, and compared by
// the medians of several rounds.
//
// On loopback TCP must not be paced: where the system's congestion control is bbr, run the servers and the
// benchmark in a network namespace of their own whose net.ipv4.tcp_congestion_control is reno. Give its
// loopback device an address that is not 127.0.0.1 as well, without which ganesha finds none.
//
// [Scale] measures how a server's cost grows with clients and files, and [Scaling.Plot] draws it.
//
// The package starts servers to compare with, too: [StartGanesha] runs nfs-ganesha with its VFS back end,
// [StartStunnel] and [StartNginx] put TLS in front of any server, [StartGocryptfs] mounts an encrypted
// directory. They need their Debian packages.
package bench
