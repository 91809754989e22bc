package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// errnoText says what an error of mount(2) means for an NFS mount.
var errnoText = map[unix.Errno]string{
	unix.EACCES:          "the server denies access to it",
	unix.EPERM:           "the server or this system doesn't permit it",
	unix.ENOENT:          "there is no such directory on the file system",
	unix.ENOTDIR:         "it is not a directory",
	unix.ENODEV:          "this kernel has no NFS version 4 client (module nfsv4)",
	unix.EPROTONOSUPPORT: "the server or this kernel doesn't support NFS version 4.1",
	unix.EINVAL:          "the kernel doesn't accept one of the mount options",
	unix.EBUSY:           "the mount point is in use",
	unix.ETIMEDOUT:       "the server didn't answer in time",
	unix.ECONNREFUSED:    "the server refuses the connection",
	unix.ECONNRESET:      "the server broke the connection off",
	unix.EHOSTUNREACH:    "the server can't be reached",
	unix.ENETUNREACH:     "the server's network can't be reached",
	unix.EIO:             "the server gave an answer that the kernel can't use",
	unix.ESTALE:          "the server doesn't know the file system any more",
	unix.EINTR:           "it was interrupted",
}

// explainMount puts an error of mount(2) into a sentence.
func explainMount(source, dir string, err error) error {
	what := err.Error()
	var errno unix.Errno
	if errors.As(err, &errno) {
		if text, ok := errnoText[errno]; ok {
			what = text
		}
	}
	return fmt.Errorf("%s can't be mounted on %s: %s (%w)", source, dir, what, err)
}
