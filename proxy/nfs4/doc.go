// Package nfs4 serves one file system (a vfs.FileSystem) over NFSv4.1 (RFC 8881).
package nfs4
