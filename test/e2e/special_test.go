package e2e

import "testing"

// A fifo and a device are opened by a client that does not know of them yet: it asks the server to open them as files, and is told to look.
func TestSpecialFiles(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	made := s.mount(w.guest, s.fs)
	must(t, w.guest, "sh", "-c", "cd "+made+" && mkfifo fifo && mknod null c 1 3")
	for _, minor := range []string{"0", "1", "2"} {
		dir := s.mountAs(w.guest, "4."+minor, s.fs, "minorversion="+minor, "nosharecache")
		for _, does := range []string{"exec 3<>fifo", "echo text > null", "cat null"} {
			must(t, w.guest, "sh", "-c", "echo 3 > /proc/sys/vm/drop_caches")
			r, err := run(t, w.guest, "timeout", "10", "sh", "-c", "cd "+dir+" && "+does)
			if err != nil || r.Code != 0 {
				t.Errorf("%s, 4.%s: status %d, %v: %s", does, minor, r.Code, err, r.Stderr)
			}
		}
	}
}
