/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sandbox.c - the seccomp filters: the system calls that tapdisk, its opener and
 * a session of tapdisk-tls may use once they are set up.
 *
 * Each is a list of permitted calls; all others fail with EPERM and are
 * reported to the kernel's audit log. They do not kill, because that would take
 * a guest's disks away: a call that is missing here (a new libc, an unusual
 * file system) then fails one operation instead of a running guest. For an
 * attacker both are the same refusal. Only calls by a foreign architecture's
 * entry (int 0x80 on x86-64) kill: no compiled code of ours can make one. They
 * kill the process; libseccomp's default, to kill only the thread, would leave
 * other threads with the locks and sockets of a process that serves nothing.
 *
 * Invariants:
 *  1. No new program: no execve, no fork or vfork, clone for threads only,
 *     no memory that becomes executable.
 *  2. No network: sockets are Unix sockets. None can be connected, so other
 *     services' sockets, such as D-Bus, are out of reach. Datagrams can be
 *     sent; the log uses them (log.c).
 *  3. No second engine: io_uring_setup is not permitted, so only the ring
 *     opened at start, with its restrictions, can be used.
 *  4. A tapdisk with an opener (opener.h) changes nothing by a file's name; the
 *     opener can do that and nothing else.
 *  5. No signals by a descriptor (F_SETOWN, F_SETSIG, O_ASYNC): they could be
 *     sent to another process of this user.
 *  6. A session (tls_process.c) only uses its open descriptors: it opens
 *     nothing, by a name or without, and reaches no other process.
 *  7. docs/security.md describes what cannot be checked here (mostly paths:
 *     images are opened by name at any time).
 */
#include "sandbox.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "array.h"

#define FILTER_CPU_S 5		/* limit; making the filter takes a thousandth of it */

#define ALLOW(name) SCMP_SYS(name)

static pid_t filtered_pid;	/* our pid, for the child that makes the filter */
static const char *way_out = "";	/* advice for messages: how to run without a filter */

static const int allowed_calls[] = {
	/* the data path; the order does not matter: libseccomp makes a search tree */
	ALLOW(io_uring_enter), ALLOW(io_uring_register), ALLOW(io_submit), ALLOW(io_getevents),
	ALLOW(io_pgetevents), ALLOW(io_cancel), ALLOW(io_destroy),
	ALLOW(epoll_create1), ALLOW(epoll_ctl), ALLOW(epoll_wait), ALLOW(epoll_pwait), ALLOW(epoll_pwait2),
	ALLOW(poll), ALLOW(ppoll), ALLOW(eventfd2), ALLOW(signalfd4),
	ALLOW(timerfd_create), ALLOW(timerfd_settime), ALLOW(timerfd_gettime),
	ALLOW(clock_gettime), ALLOW(clock_nanosleep), ALLOW(nanosleep), ALLOW(gettimeofday), ALLOW(time),
	ALLOW(read), ALLOW(write), ALLOW(readv), ALLOW(writev),
	ALLOW(pread64), ALLOW(pwrite64), ALLOW(preadv), ALLOW(pwritev), ALLOW(preadv2), ALLOW(pwritev2),
	ALLOW(fsync), ALLOW(fdatasync), ALLOW(sync_file_range), ALLOW(fadvise64), ALLOW(fallocate), ALLOW(ftruncate),

	/* images, markers, sysfs, statistics */
	ALLOW(open), ALLOW(openat), ALLOW(close), ALLOW(close_range), ALLOW(lseek),
	ALLOW(stat), ALLOW(lstat), ALLOW(fstat), ALLOW(newfstatat), ALLOW(statx), ALLOW(statfs), ALLOW(fstatfs),
	ALLOW(access), ALLOW(faccessat), ALLOW(faccessat2), ALLOW(readlink), ALLOW(readlinkat),
	ALLOW(getdents64), ALLOW(getcwd), ALLOW(flock), ALLOW(dup), ALLOW(dup2), ALLOW(dup3),
	ALLOW(pipe2), ALLOW(umask),

	/* the control and NBD sockets, and the system log */
	ALLOW(listen), ALLOW(accept), ALLOW(accept4), ALLOW(shutdown),
	ALLOW(sendto), ALLOW(sendmsg), ALLOW(recvfrom), ALLOW(recvmsg),
	ALLOW(getsockopt), ALLOW(setsockopt), ALLOW(getsockname), ALLOW(getpeername),

	/* memory and threads */
	ALLOW(brk), ALLOW(munmap), ALLOW(mremap), ALLOW(madvise),
	ALLOW(futex), ALLOW(set_robust_list), ALLOW(rseq), ALLOW(set_tid_address),
	ALLOW(sched_yield), ALLOW(sched_getaffinity), ALLOW(exit), ALLOW(exit_group),
	ALLOW(rt_sigaction), ALLOW(rt_sigprocmask), ALLOW(rt_sigreturn), ALLOW(rt_sigtimedwait),
	ALLOW(sigaltstack), ALLOW(restart_syscall),

	/* identity, limits, system information */
	ALLOW(getpid), ALLOW(getppid), ALLOW(gettid), ALLOW(getuid), ALLOW(geteuid), ALLOW(getgid), ALLOW(getegid),
	ALLOW(getrandom), ALLOW(uname), ALLOW(sysinfo), ALLOW(getrlimit), ALLOW(getrusage),
};

/* Calls that change something by its name, or the mode of an open file. */
static const int naming_calls[] = {
	ALLOW(mkdir), ALLOW(mkdirat), ALLOW(rmdir), ALLOW(unlink), ALLOW(unlinkat),
	ALLOW(rename), ALLOW(renameat), ALLOW(renameat2),
	ALLOW(chmod), ALLOW(fchmod), ALLOW(fchmodat), ALLOW(bind),
};

/* In addition to those: the calls of opener.c, and of libc for it. */
static const int opener_calls[] = {
	ALLOW(recvmsg), ALLOW(sendmsg), ALLOW(sendto), ALLOW(close), ALLOW(open), ALLOW(openat),
	ALLOW(stat), ALLOW(lstat), ALLOW(fstat), ALLOW(newfstatat), ALLOW(statx), ALLOW(statfs), ALLOW(fstatfs),
	ALLOW(readlink), ALLOW(readlinkat), ALLOW(getcwd), ALLOW(access), ALLOW(faccessat), ALLOW(faccessat2),
	ALLOW(getuid), ALLOW(geteuid), ALLOW(getgid), ALLOW(getegid),
	ALLOW(brk), ALLOW(munmap), ALLOW(mremap), ALLOW(madvise), ALLOW(futex), ALLOW(getrandom), ALLOW(getpid),
	ALLOW(exit), ALLOW(exit_group), ALLOW(rt_sigreturn), ALLOW(restart_syscall),
};

/* The calls of tls_session.c and GnuTLS after the keys are read, of libc for them, and for a line to the log. */
static const int tls_calls[] = {
	ALLOW(recvfrom), ALLOW(recvmsg), ALLOW(sendto), ALLOW(sendmsg), ALLOW(poll), ALLOW(ppoll), ALLOW(shutdown), ALLOW(close),
	ALLOW(write), ALLOW(alarm), ALLOW(setitimer), ALLOW(clock_gettime), ALLOW(gettimeofday), ALLOW(time),
	ALLOW(getrandom), ALLOW(getpid), ALLOW(brk), ALLOW(munmap), ALLOW(mremap), ALLOW(madvise), ALLOW(futex),
	ALLOW(exit), ALLOW(exit_group), ALLOW(rt_sigreturn), ALLOW(restart_syscall),
};

/* The permitted ioctls; allow_ioctls() adds all ioctls of gntdev and evtchn. */
static const unsigned long allowed_ioctls[] = {
	BLKGETSIZE64, BLKSSZGET, BLKROGET, BLKDISCARD, BLKZEROOUT,
	TCGETS,		/* isatty(), which stdio calls for files that it opens */
};

/* Flags, locks, seals, copies; F_SETFL is allow_flags(). */
static const unsigned allowed_fcntls[] = {
	F_GETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC, F_GETLK, F_SETLK, F_OFD_GETLK, F_OFD_SETLK, F_GET_SEALS, F_ADD_SEALS,
};

#define IOC_TYPE_MASK	0xff00u
#define IOC_TYPE(type)	((unsigned)(type) << 8)

static int allow_list(scmp_filter_ctx filter, const int *calls, size_t count)
{
	int error = 0;

	for (size_t i = 0; !error && i < count; i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	return error;
}

#define ALLOW_LIST(filter, calls) allow_list(filter, calls, ARRAY_SIZE(calls))

static int allow_calls(scmp_filter_ctx filter)
{
	return ALLOW_LIST(filter, allowed_calls);
}

static int allow_naming(scmp_filter_ctx filter)
{
	return ALLOW_LIST(filter, naming_calls);
}

static int allow_own_name(scmp_filter_ctx filter)
{
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0_32(SCMP_CMP_EQ, PR_SET_NAME));
}

static int allow_fcntl(scmp_filter_ctx filter, unsigned command)
{
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1_32(SCMP_CMP_EQ, command));
}

static int allow_flags(scmp_filter_ctx filter)
{
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 2, SCMP_A1_32(SCMP_CMP_EQ, F_SETFL),
				SCMP_A2_32(SCMP_CMP_MASKED_EQ, O_ASYNC, 0));
}

static int allow_fcntls(scmp_filter_ctx filter)
{
	int error = allow_flags(filter);

	for (size_t i = 0; !error && i < ARRAY_SIZE(allowed_fcntls); i++)
		error = allow_fcntl(filter, allowed_fcntls[i]);
	return error;
}

static int allow_opener(scmp_filter_ctx filter)
{
	int error = ALLOW_LIST(filter, opener_calls);

	return error ? error : allow_own_name(filter);
}

static int allow_tls(scmp_filter_ctx filter)
{
	int error = ALLOW_LIST(filter, tls_calls);

	/* how much its client has not read yet */
	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1_32(SCMP_CMP_EQ, SIOCOUTQ));
	/* to make a socket non-blocking; fcntl can neither make descriptors nor cause signals */
	if (!error)
		error = allow_fcntl(filter, F_GETFL);
	return error ? error : allow_flags(filter);
}

static int allow_ioctls(scmp_filter_ctx filter)
{
	/* ioctl types of xen-sys/Linux/gntdev.h and evtchn.h, which libxen-dev does not have */
	static const char xen_types[] = { 'G', 'E' };
	int error = 0;

	for (size_t i = 0; !error && i < ARRAY_SIZE(allowed_ioctls); i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
					 SCMP_A1_32(SCMP_CMP_EQ, allowed_ioctls[i]));
	for (size_t i = 0; !error && i < sizeof(xen_types); i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
					 SCMP_A1_32(SCMP_CMP_MASKED_EQ, IOC_TYPE_MASK, IOC_TYPE(xen_types[i])));
	return error;
}

/* Permit mapping memory and changing its protection, but never to executable. */
static int allow_memory(scmp_filter_ctx filter)
{
	static const int calls[] = { SCMP_SYS(mmap), SCMP_SYS(mprotect) };
	int error = 0;

	for (size_t i = 0; !error && i < ARRAY_SIZE(calls); i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 1,
					 SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	return error;
}

/* Threads, but no processes. clone3's flags are in memory, which a filter cannot read: on ENOSYS libc uses clone. */
static int allow_threads(scmp_filter_ctx filter)
{
	int error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);

	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
					 SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	if (!error)
		error = allow_own_name(filter);
	/* the processor of the calling thread only */
	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sched_setaffinity), 1, SCMP_A0_32(SCMP_CMP_EQ, 0));
	/* abort() */
	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
					 SCMP_A0_32(SCMP_CMP_EQ, (unsigned)filtered_pid));
	/* getrlimit(), for which libc uses this call without a new limit */
	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
					 SCMP_A0_32(SCMP_CMP_EQ, 0), SCMP_A2(SCMP_CMP_EQ, 0));
	return error;
}

static int allow_sockets(scmp_filter_ctx filter)
{
	int error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0_32(SCMP_CMP_EQ, AF_UNIX));

	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1,
					 SCMP_A0_32(SCMP_CMP_EQ, AF_UNIX));
	return error;
}

/*
 * At exit AddressSanitizer checks for leaks from a helper process that traces this one. ThreadSanitizer has a background
 * thread in each process that uses the clock.
 */
static int allow_sanitizer(scmp_filter_ctx filter)
{
	int error = 0;

#ifdef __SANITIZE_THREAD__
	static const int calls[] = {
		SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday), SCMP_SYS(clock_gettime), SCMP_SYS(sched_yield),
		/* that thread may still be starting */
		SCMP_SYS(rseq), SCMP_SYS(set_robust_list), SCMP_SYS(rt_sigprocmask), SCMP_SYS(sigaltstack), SCMP_SYS(gettid),
	};

	for (size_t i = 0; !error && i < ARRAY_SIZE(calls); i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
#endif
#ifdef __SANITIZE_ADDRESS__
	static const int calls[] = { SCMP_SYS(ptrace), SCMP_SYS(wait4), SCMP_SYS(prctl), SCMP_SYS(getdents) };

	for (size_t i = 0; !error && i < ARRAY_SIZE(calls); i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	if (!error)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
					 SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_VM | CLONE_UNTRACED,
						 CLONE_VM | CLONE_UNTRACED));
#endif
	return error;
}

static int set_attributes(scmp_filter_ctx filter)
{
	int error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

	/* a binary tree: a dozen comparisons per call instead of a hundred */
	if (!error)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	return error;
}

typedef int add_rules(scmp_filter_ctx filter);

/* The parts of each kind of filter. */
static add_rules *const alone[] = {
	set_attributes, allow_calls, allow_naming, allow_fcntls, allow_ioctls, allow_memory, allow_threads, allow_sockets, allow_sanitizer, NULL
};
static add_rules *const served[] = {
	set_attributes, allow_calls, allow_fcntls, allow_ioctls, allow_memory, allow_threads, allow_sockets, allow_sanitizer, NULL
};
static add_rules *const opener[] = { set_attributes, allow_opener, allow_naming, allow_memory, allow_sanitizer, NULL };
static add_rules *const tls[] = { set_attributes, allow_tls, allow_memory, allow_sanitizer, NULL };
static add_rules *const *const kinds[] = {
	[SANDBOX_ALONE] = alone, [SANDBOX_SERVED] = served, [SANDBOX_OPENER] = opener, [SANDBOX_TLS] = tls,
};

/* Write the program of the filter into @file. */
static int write_program(int file, enum sandbox_kind kind)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int error = filter ? 0 : -ENOMEM;

	for (add_rules *const *step = kinds[kind]; !error && *step; step++)
		error = (*step)(filter);
	if (!error)
		error = seccomp_export_bpf(filter, file);
	seccomp_release(filter);
	return error;
}

/*
 * Write it twice, in a child process: out of memory, libseccomp may crash or
 * loop, which only ends the child, or silently leave out a rule, which shows
 * when the two copies differ.
 */
static int write_programs(int file, enum sandbox_kind kind)
{
	static const struct rlimit limit = { FILTER_CPU_S, FILTER_CPU_S };
	pid_t child = fork();
	int status;

	if (child < 0)
		return -errno;
	if (!child) {
		prctl(PR_SET_DUMPABLE, 0);	/* no core file for an expected crash */
		if (setrlimit(RLIMIT_CPU, &limit))
			_exit(1);
		_exit(write_program(file, kind) || write_program(file, kind));
	}
	while (waitpid(child, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return status ? -ENOMEM : 0;
}

/* @file has two copies, which must be equal; the first is the program. */
static int read_program(int file, struct sock_fprog *program)
{
	off_t bytes = lseek(file, 0, SEEK_END);
	size_t half = bytes > 0 ? bytes / 2 : 0;
	char *both;

	if (!half || bytes % (2 * sizeof(*program->filter)) || half / sizeof(*program->filter) > BPF_MAXINSNS)
		return -ENOMEM;
	both = malloc(bytes);
	if (!both)
		return -ENOMEM;
	if (pread(file, both, bytes, 0) != bytes || memcmp(both, both + half, half)) {
		free(both);
		return -ENOMEM;
	}
	program->filter = (struct sock_filter *)both;
	program->len = (unsigned short)(half / sizeof(*program->filter));
	return 0;
}

int sandbox_prepare(struct sock_fprog *program, enum sandbox_kind kind, struct error_text *text)
{
	int file = memfd_create("sandbox", MFD_CLOEXEC);
	int error = file < 0 ? -errno : 0;

	filtered_pid = getpid();
	way_out = kind == SANDBOX_TLS ? "" : "; --no-sandbox runs without one";
	if (!error)
		error = write_programs(file, kind);
	if (!error)
		error = read_program(file, program);
	if (file >= 0)
		close(file);
	if (error)
		return error_set(text, error, "cannot make the seccomp filter: %s%s", strerror(-error), way_out);
	return 0;
}

/* For all threads: the engine's helper runs already. */
static int load_program(const struct sock_fprog *program, unsigned flags)
{
	long thread = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC | flags, program);

	/* > 0: the id of a thread with another filter */
	return thread < 0 ? -errno : thread ? -ESRCH : 0;
}

int sandbox_enter(const struct sock_fprog *program, struct error_text *text)
{
	int error = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;

	/* refusals go to the audit log; a kernel without that (before 4.14) still refuses */
	if (!error)
		error = load_program(program, SECCOMP_FILTER_FLAG_LOG);
	if (error == -EINVAL)
		error = load_program(program, 0);
	if (error)
		return error_set(text, error, "cannot install the seccomp filter: %s%s", strerror(-error), way_out);
	return 0;
}
