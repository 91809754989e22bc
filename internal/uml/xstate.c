//go:build ignore

// Stands between user-mode Linux and ptrace(2) on processors whose registers are more than it has room for.
//
// Linux's PTRACE_SETREGSET takes NT_X86_XSTATE whole, 11,008 bytes where there is AMX, and answers a shorter one with
// EFAULT; Linux 6.1 keeps what comes before AMX, and gives that. Here it is made whole, with tile registers in
// their initial state: no program in a guest can ask for them (arch_prctl(2), ARCH_REQ_XCOMP_PERM).

#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	NT_X86_XSTATE = 0x202,
	XSTATE_BV = 512, // which components are not in their initial state
	COMPONENTS_BEFORE_AMX = (1 << 17) - 1,
};

static char whole[64 << 10];

static long call(long request, long pid, void *addr, void *data)
{
	return syscall(SYS_ptrace, request, pid, addr, data);
}

// Fills whole with the registers of pid, and says how many bytes they are, or -1.
static long get_whole(long pid)
{
	struct iovec all = { whole, sizeof whole };

	if (call(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &all) < 0)
		return -1;
	return all.iov_len;
}

static long get(long pid, struct iovec *part)
{
	long length = get_whole(pid);

	if (length < 0)
		return -1;
	if (part->iov_len > (size_t)length)
		part->iov_len = length;
	memcpy(part->iov_base, whole, part->iov_len);
	return 0;
}

static long set(long pid, struct iovec *part)
{
	struct iovec all = { whole, 0 };
	unsigned long long components;
	long length = get_whole(pid);

	if (length < 0)
		return -1;
	all.iov_len = length;
	memcpy(whole, part->iov_base, part->iov_len < (size_t)length ? part->iov_len : (size_t)length);
	memcpy(&components, whole + XSTATE_BV, sizeof components);
	components &= COMPONENTS_BEFORE_AMX;
	memcpy(whole + XSTATE_BV, &components, sizeof components);
	return call(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &all);
}

// As in libc: what is peeked at is the result.
static long peek(long request, long pid, void *addr)
{
	long word;

	if (call(request, pid, addr, &word) < 0)
		return -1;
	errno = 0;
	return word;
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;
	long pid;
	void *addr, *data;

	va_start(arguments, request);
	pid = va_arg(arguments, int);
	addr = va_arg(arguments, void *);
	data = va_arg(arguments, void *);
	va_end(arguments);
	if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER)
		return peek(request, pid, addr);
	if (request == PTRACE_GETREGSET && addr == (void *)NT_X86_XSTATE)
		return get(pid, data);
	if (request == PTRACE_SETREGSET && addr == (void *)NT_X86_XSTATE)
		return set(pid, data);
	return call(request, pid, addr, data);
}
