"""What a Linux client does with files on a mount: python3 client.py JOB DIRECTORY."""
import errno
import fcntl
import mmap
import os
import socket
import stat
import struct
import sys
import time


def expect(condition, *what):
    if not condition:
        raise AssertionError(what)


def fails(code, f, *args, **kwargs):
    try:
        f(*args, **kwargs)
    except OSError as e:
        expect(e.errno == code, "got", errno.errorcode.get(e.errno), "want", errno.errorcode[code])
        return
    raise AssertionError(("no error, want", errno.errorcode[code]))


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def fresh(path):
    """Reads path past the page cache."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.read(fd, 1 << 24)
    finally:
        os.close(fd)


def files():
    for size in (0, 1, 4095, 4096, 4097, 1 << 20, (3 << 20) + 17):
        data = os.urandom(size)
        write("f", data)
        expect(fresh("f") == data, size)
    with open("f", "r+b") as f:
        f.seek(5 << 20)
        f.write(b"end")
    expect(os.stat("f").st_size == (5 << 20) + 3)
    expect(fresh("f")[4 << 20:5 << 20] == bytes(1 << 20), "the hole")
    os.truncate("f", 10)
    expect(len(fresh("f")) == 10)
    os.truncate("f", 100)
    expect(fresh("f")[10:] == bytes(90))
    fd = os.open("x", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640)
    os.write(fd, b"12345")
    os.fsync(fd)
    expect(os.fstat(fd).st_mode & 0o7777 == 0o640)
    os.close(fd)
    fails(errno.EEXIST, os.open, "x", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    fd = os.open("x", os.O_WRONLY | os.O_TRUNC)
    os.close(fd)
    expect(os.stat("x").st_size == 0)
    fd = os.open("ro", os.O_CREAT | os.O_WRONLY, 0o444)
    os.write(fd, b"written though read-only")
    os.close(fd)
    for _ in range(3):
        with open("log", "ab") as f:
            f.write(b"line\n")
    expect(read("log") == b"line\n" * 3)
    fd = os.open("sync", os.O_CREAT | os.O_WRONLY | os.O_SYNC)
    os.write(fd, b"s" * 9000)
    os.close(fd)
    fd = os.open("sync", os.O_RDWR)
    os.pwrite(fd, b"S", 4500)
    expect(os.pread(fd, 3, 4499) == b"sSs")
    os.close(fd)


def names():
    os.mkdir("d")
    os.mkdir("d/e")
    write("d/a", b"a")
    os.link("d/a", "d/b")
    expect(os.stat("d/a").st_nlink == 2 and os.stat("d/a").st_ino == os.stat("d/b").st_ino)
    os.rename("d/a", "d/e/c")
    fails(errno.ENOENT, os.stat, "d/a")
    write("d/over", b"old")
    os.rename("d/e/c", "d/over")
    expect(read("d/over") == b"a")
    fails(errno.ENOTEMPTY, os.rmdir, "d")
    os.mkdir("d/full")
    write("d/full/x", b"")
    fails(errno.ENOTEMPTY, os.rename, "d/e", "d/full")
    fails(errno.EISDIR, os.rename, "d/over", "d/full")
    fails(errno.ENOTDIR, os.rename, "d/e", "d/over")
    fails(errno.EINVAL, os.rename, "d", "d/e/d")
    os.symlink("over", "d/link")
    os.symlink("x" * 1000, "d/long")
    expect(os.readlink("d/link") == "over" and read("d/link") == b"a" and os.readlink("d/long") == "x" * 1000)
    os.mkfifo("d/fifo", 0o600)
    os.mknod("d/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod("d/disk", 0o600 | stat.S_IFBLK, os.makedev(8, 17))
    expect(stat.S_ISFIFO(os.stat("d/fifo").st_mode))
    expect(os.stat("d/null").st_rdev == os.makedev(1, 3) and os.stat("d/disk").st_rdev == os.makedev(8, 17))
    s = socket.socket(socket.AF_UNIX)
    s.bind("d/sock")
    s.close()
    expect(stat.S_ISSOCK(os.stat("d/sock").st_mode))
    for name in (b"\xff\xfe not utf-8", "größer".encode(), b"a" * 255, b" ", b"new\nline"):
        os.mkdir(b"d/" + name)
        expect(name in os.listdir(b"d"))
        os.rmdir(b"d/" + name)
    fails(errno.ENAMETOOLONG, os.mkdir, "d/" + "a" * 256)
    expect(os.path.samefile("d/e/../..", "."))


def attributes():
    write("m", b"x" * 5000)
    for mode in (0o000, 0o644, 0o4755, 0o2711, 0o1777, 0o7777):
        os.chmod("m", mode)
        expect(os.stat("m").st_mode & 0o7777 == mode, oct(mode))
    os.chown("m", 1234, 4321)
    st = os.stat("m")
    expect((st.st_uid, st.st_gid) == (1234, 4321))
    expect(st.st_mode & 0o6000 == 0, "set-id bits stay after chown")
    when = (1_000_000_000_123_456_789, 999_999_999_987_654_321)
    os.utime("m", ns=when)
    st = os.stat("m")
    expect((st.st_atime_ns, st.st_mtime_ns) == when)
    os.utime("m")
    expect(abs(os.stat("m").st_mtime - time.time()) < 60)
    expect(st.st_blocks > 0 and st.st_size == 5000)
    before = os.stat(".").st_mtime_ns
    write("new", b"")
    expect(os.stat(".").st_mtime_ns >= before)
    fs = os.statvfs(".")
    expect(fs.f_bfree > 0 and fs.f_files > 0 and fs.f_namemax == 255)


def as_user(uid, gid, groups, f):
    """Runs f in a child with these ids."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
            f()
            os._exit(0)
        except BaseException as e:
            print(repr(e), flush=True)
            os._exit(1)
    expect(os.waitpid(pid, 0)[1] == 0, "as", uid)


def access():
    os.mkdir("own", 0o700)
    write("private", b"p")
    os.chmod("private", 0o600)
    write("group", b"g")
    os.chmod("group", 0o660)
    os.chown("group", 0, 77)
    write("exec", b"#!/bin/sh\nexit 0\n")
    os.chmod("exec", 0o711)

    def stranger():
        fails(errno.EACCES, open, "private")
        fails(errno.EACCES, os.listdir, "own")
        fails(errno.EACCES, open, "group")
        fails(errno.EPERM, os.chmod, "private", 0o666)
        fails(errno.EPERM, os.chown, "private", 1000, 1000)
        expect(not os.access("private", os.R_OK) and os.access("exec", os.X_OK))
        fails(errno.EPERM, os.unlink, "private")  # the directory is sticky
        write("mine", b"1000")
        expect(os.stat("mine").st_uid == 1000)
        os.unlink("mine")
        fails(errno.EPERM, os.mknod, "dev", 0o600 | stat.S_IFCHR, os.makedev(1, 3))

    def member():
        with open("group", "r+b") as f:
            f.write(b"G")

    as_user(1000, 1000, [], stranger)
    as_user(1000, 1000, [5, 77], member)
    as_user(1001, 77, [], member)


def directory():
    os.mkdir("many")
    want = {"entry %d" % i for i in range(1000)}
    for name in want:
        os.close(os.open("many/" + name, os.O_CREAT | os.O_WRONLY))
    expect(set(os.listdir("many")) == want)
    seen = {e.name: e.stat().st_ino for e in os.scandir("many")}
    expect(set(seen) == want and len(set(seen.values())) == 1000)
    for name in os.listdir("many"):  # remove while listing anew
        os.unlink("many/" + name)
    os.rmdir("many")


def unlinked():
    fd = os.open("gone", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"still here")
    os.unlink("gone")
    expect(not [n for n in os.listdir(".") if n.startswith(".nfs")], "silly rename")
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    expect(os.pread(fd, 100, 0) == b"still here")
    os.pwrite(fd, b"!", 10)
    os.ftruncate(fd, 5)
    expect(os.fstat(fd).st_size == 5 and os.fstat(fd).st_nlink == 0)
    os.close(fd)
    fails(errno.ENOENT, open, "gone")


def lock(fd, kind, start, length):
    fcntl.fcntl(fd, fcntl.F_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))


def holder(fd, kind, start, length):
    out = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))
    return struct.unpack("hhqqi4x", out)


def locks():
    write("l", bytes(100))
    fd = os.open("l", os.O_RDWR)
    lock(fd, fcntl.F_WRLCK, 10, 10)
    lock(fd, fcntl.F_RDLCK, 15, 20)
    lock(fd, fcntl.F_UNLCK, 12, 1)
    lock(fd, fcntl.F_WRLCK, 1 << 40, 0)

    def other():
        mine = os.open("l", os.O_RDWR)
        for start, length, kind in ((10, 2, fcntl.F_RDLCK), (13, 2, fcntl.F_RDLCK), (15, 1, fcntl.F_WRLCK),
                                    (34, 1, fcntl.F_WRLCK), (1 << 50, 1, fcntl.F_RDLCK), (0, 0, fcntl.F_RDLCK)):
            try:
                lock(mine, kind, start, length)
            except OSError as e:
                expect(e.errno in (errno.EAGAIN, errno.EACCES), e)
            else:
                raise AssertionError(("locked", start, length))
        for start, length, kind in ((0, 10, fcntl.F_WRLCK), (12, 1, fcntl.F_WRLCK), (16, 4, fcntl.F_RDLCK),
                                    (35, 1000, fcntl.F_WRLCK)):
            lock(mine, kind, start, length)
        expect(holder(mine, fcntl.F_WRLCK, 10, 1)[0] == fcntl.F_WRLCK)
        os.close(mine)

    as_user(0, 0, [], other)
    os.close(fd)
    as_user(0, 0, [], lambda: lock(os.open("l", os.O_RDWR), fcntl.F_WRLCK, 0, 0))
    f = open("l", "r+b")
    fcntl.flock(f, fcntl.LOCK_EX)
    f.close()


def mapped():
    write("map", bytes(1 << 16))
    fd = os.open("map", os.O_RDWR)
    with mmap.mmap(fd, 0) as m:
        m[1000:1005] = b"hello"
        m[40000:40005] = b"world"
        m.flush()
    os.close(fd)
    data = fresh("map")
    expect(data[1000:1005] == b"hello" and data[40000:40005] == b"world" and len(data) == 1 << 16)


def hold():
    """Keeps a file open and locked until a file called done is there."""
    write("held", b"before")
    fd = os.open("held", os.O_RDWR)
    lock(fd, fcntl.F_WRLCK, 0, 0)
    os.unlink("held") if len(sys.argv) > 3 else None
    os.close(os.open("holding", os.O_CREAT | os.O_WRONLY))
    while not os.path.exists("done"):
        time.sleep(0.1)
        os.pwrite(fd, b"after!", 0)
        os.fsync(fd)
    expect(os.pread(fd, 6, 0) == b"after!")
    os.close(fd)
    os.unlink("done")
    os.unlink("holding")


JOBS = {"mmap": mapped}
JOBS.update({f.__name__: f for f in (files, names, attributes, access, directory, unlinked, locks, hold)})

if __name__ == "__main__":
    os.umask(0)
    os.chdir(sys.argv[2])
    if sys.argv[1] != "hold":
        os.mkdir(sys.argv[1], 0o1777)
        os.chdir(sys.argv[1])
    JOBS[sys.argv[1]]()
