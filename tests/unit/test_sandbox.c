/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_sandbox.c - system calls that tapdisk's filter refuses, and those that
 * it allows. Each test installs the filter in a child process, since it cannot
 * be removed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "array.h"
#include "engine_run.h"
#include "in_child.h"
#include "log.h"
#include "sandbox.h"

/* A refused call, which returns -1 and EPERM. */
#define require_refused(call) require_errno(call, EPERM)

static void enter_as(enum sandbox_kind kind)
{
	struct error_text text = { "" };
	struct sock_fprog filter;
	int error = sandbox_prepare(&filter, kind, &text);

	if (!error) {
		error = sandbox_enter(&filter, &text);
		free(filter.filter);
	}
	if (error)
		fprintf(stderr, "# %s\n", text.text);
	require(!error);
}

static void enter(void)
{
	enter_as(SANDBOX_ALONE);
}

static char *const no_arguments[] = { "true", NULL };

static void no_new_programs(void)
{
	enter();
	require_refused(execv("/bin/true", no_arguments));
	require_refused(syscall(SYS_execveat, AT_FDCWD, "/bin/true", no_arguments, NULL, 0));
	require_refused(fork());
	require_refused(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
	require_refused(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
	require(system("true") != 0);
	require(prctl(PR_SET_NAME, "sandboxed") == 0);
}

static void other_processes_run_where_they_do(void)
{
	cpu_set_t where;

	enter();
	require(!sched_getaffinity(0, sizeof(where), &where));
	require(!sched_setaffinity(0, sizeof(where), &where));
	require_refused(sched_setaffinity(getppid(), sizeof(where), &where));
	require_refused(sched_setaffinity(getpid(), sizeof(where), &where));
}

/* A process with an opener cannot change anything by name. */
static void no_names(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/nowhere/socket" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	enter_as(SANDBOX_SERVED);
	require_refused(rename("/nowhere/one", "/nowhere/other"));
	require_refused(unlink("/nowhere/one"));
	require_refused(mkdir("/nowhere/one", 0700));
	require_refused(rmdir("/nowhere/one"));
	require_refused(chmod("/nowhere/one", 0777));
	require_refused(link("/nowhere/one", "/nowhere/other"));
	require_refused(bind(fd, (struct sockaddr *)&address, sizeof(address)));
	require_refused(fork());
	require(open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC) >= 0);
}

/* The opener opens files, and cannot read or write them. */
static void opener_only_opens(void)
{
	static char bytes[16];
	int fd;

	enter_as(SANDBOX_OPENER);
	fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	require(fd >= 0);
	require_refused(read(fd, bytes, sizeof(bytes)));
	require_refused(pread(fd, bytes, sizeof(bytes), 0));
	require_refused(write(fd, bytes, sizeof(bytes)));
	require_refused(pwrite(fd, bytes, sizeof(bytes), 0));
	require_refused(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	require_refused(socket(AF_UNIX, SOCK_STREAM, 0));
	require_refused(fork());
	require_refused(execv("/bin/true", no_arguments));
	require_refused(kill(getppid(), 0));
	require_refused(syscall(SYS_setuid, 0));
	require_refused(ioctl(fd, BLKROGET, bytes));
	syscall(SYS_exit_group, 0);	/* AddressSanitizer would look for leaks in _exit() */
}

/* A session with a client from the network only moves bytes between the descriptors that it has open. */
static void session_only_talks(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/nowhere/socket" };
	struct rlimit limit = { 64, 64 };
	int pair[2], waiting;
	char byte;

	require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	enter_as(SANDBOX_TLS);
	require_refused(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
	require_refused(open("/dev/null", O_RDONLY | O_CLOEXEC));
	require_refused(unlink("/nowhere/one"));
	require_refused(mkdir("/nowhere/one", 0700));
	require_refused(socket(AF_UNIX, SOCK_STREAM, 0));
	require_refused(socket(AF_INET, SOCK_STREAM, 0));
	require_refused(connect(pair[0], (struct sockaddr *)&address, sizeof(address)));
	require_refused(bind(pair[0], (struct sockaddr *)&address, sizeof(address)));
	require_refused(listen(pair[0], 1));
	require_refused(accept(pair[0], NULL, NULL));
	require_refused(dup(pair[0]));
	require_refused(fcntl(pair[0], F_DUPFD, 10));
	require_refused(fcntl(pair[0], F_SETOWN, getpid()));
	require_refused(ioctl(pair[0], FIONBIO, &waiting));
	require_refused(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	require_refused(fork());
	require_refused(execv("/bin/true", no_arguments));
	require_refused(kill(1, 0));
	require_refused(setrlimit(RLIMIT_NOFILE, &limit));
	require_refused(syscall(SYS_setuid, 0));
#ifndef __SANITIZE_ADDRESS__
	require_refused(ptrace(PTRACE_ATTACH, 1, 0, 0));
	require_refused(prctl(PR_SET_DUMPABLE, 1));
#endif
	require(send(pair[0], "x", 1, MSG_NOSIGNAL) == 1 && recv(pair[1], &byte, 1, 0) == 1);
	require(!ioctl(pair[0], SIOCOUTQ, &waiting) && !fcntl(pair[0], F_SETFL, fcntl(pair[0], F_GETFL) | O_NONBLOCK));
	require(!shutdown(pair[0], SHUT_WR) && !close(pair[0]));
	syscall(SYS_exit_group, 0);	/* AddressSanitizer would look for leaks in _exit() */
}

static void no_code_from_data(void)
{
	void *memory;

	enter();
	require_refused(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	require(memory != MAP_FAILED);
	require_refused(mprotect(memory, 4096, PROT_READ | PROT_EXEC));
	require(mprotect(memory, 4096, PROT_READ) == 0);
}

static void no_network(void)
{
	int pair[2];

	enter();
	require_refused(socket(AF_INET, SOCK_STREAM, 0));
	require_refused(socket(AF_INET6, SOCK_DGRAM, 0));
	require_refused(socket(AF_NETLINK, SOCK_RAW, 0));
	require_refused(socket(AF_PACKET, SOCK_RAW, 0));
	require(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	require(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
}

/* Nor any other service on this host. */
static void no_services(void)
{
	const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/run/dbus/system_bus_socket" };

	enter();
	require_refused(connect(socket(AF_UNIX, SOCK_STREAM, 0), (const struct sockaddr *)&address, sizeof(address)));
	require_refused(connect(socket(AF_UNIX, SOCK_DGRAM, 0), (const struct sockaddr *)&address, sizeof(address)));
}

static int make_logger(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, log_socket_path);
	unlink(log_socket_path);
	require(!bind(fd, (struct sockaddr *)&address, sizeof(address)));
	return fd;
}

static void expect_line(int logger, int priority, const char *text)
{
	char line[256] = "", program[32], start[8];

	require(recv(logger, line, sizeof(line) - 1, MSG_DONTWAIT) > 0);
	snprintf(program, sizeof(program), " test[%d]: ", (int)getpid());
	snprintf(start, sizeof(start), "<%d>", LOG_DAEMON | priority);
	require(!strncmp(line, start, strlen(start)) && strstr(line, program) && !strcmp(strstr(line, program) + strlen(program), text));
}

/* Makes the directory @path and a logger in it, to which the log goes. */
static int open_log(char *path, char *socket_path, size_t size)
{
	int logger;

	require(mkdtemp(path) != NULL);
	snprintf(socket_path, size, "%s/log", path);
	log_socket_path = socket_path;
	logger = make_logger();
	log_open("test", false);
	return logger;
}

/* Also to a logger that has just been restarted, with a new socket. */
static void log_goes_on(void)
{
	char path[] = "/var/tmp/tapsnap-sandbox-XXXXXX", socket_path[64];
	int logger;

	logger = open_log(path, socket_path, sizeof(socket_path));
	enter();
	log_info("one");
	expect_line(logger, LOG_INFO, "one");
	close(logger);
	log_info("nobody hears this");
	logger = make_logger();
	log_info("two");
	expect_line(logger, LOG_INFO, "two");
	unlink(socket_path);
	rmdir(path);
}

static unsigned lines_waiting(int logger)
{
	unsigned count = 0;
	char line[256];

	while (recv(logger, line, sizeof(line), MSG_DONTWAIT) > 0)
		count++;
	return count;
}

/* The logger is stopped and takes no lines: tapdisk does not wait for it, and logs later how many lines it left out. */
static void log_does_not_wait(void)
{
	char path[] = "/var/tmp/tapsnap-sandbox-XXXXXX", socket_path[64], left_out[64];
	const unsigned count = 5000;
	unsigned taken;
	int logger;

	logger = open_log(path, socket_path, sizeof(socket_path));
	alarm(5);
	enter();
	for (unsigned i = 0; i < count; i++)
		log_info("line %u", i);
	taken = lines_waiting(logger);
	require(taken && taken < count);
	log_info("it reads again");
	snprintf(left_out, sizeof(left_out), "the logger did not take %u lines", count - taken);
	expect_line(logger, LOG_WARNING, left_out);
	expect_line(logger, LOG_INFO, "it reads again");
	log_info("nothing was left out");
	expect_line(logger, LOG_INFO, "nothing was left out");
	unlink(socket_path);
	rmdir(path);
}

/* The same with a stream socket: only the lines that did not fit are lost. */
static void log_does_not_wait_for_stream(void)
{
	char path[] = "/var/tmp/tapsnap-sandbox-XXXXXX", socket_path[64], all[4096];
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener, logger;

	require(mkdtemp(path) != NULL);
	snprintf(socket_path, sizeof(socket_path), "%s/log", path);
	strcpy(address.sun_path, socket_path);
	log_socket_path = socket_path;
	require((listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
	require(!bind(listener, (struct sockaddr *)&address, sizeof(address)) && !listen(listener, 1));
	alarm(5);
	log_open("test", false);
	require((logger = accept(listener, NULL, NULL)) >= 0);
	enter();
	for (unsigned i = 0; i < 5000; i++)
		log_info("line %u", i);
	while (recv(logger, all, sizeof(all), MSG_DONTWAIT) > 0)
		;
	log_info("it reads again");
	require(recv(logger, all, sizeof(all), MSG_DONTWAIT) > 0);
	require(strstr(all, ": the logger did not take "));
	require(!strcmp(strchr(all, '\0') - strlen(" lines"), " lines"));
	unlink(socket_path);
	rmdir(path);
}

static void no_power_over_the_machine(void)
{
	uint8_t parameters[120] = { 0 };
	pid_t parent = getppid();

	enter();
	require_refused(mount("none", "/mnt", "tmpfs", 0, NULL));
#ifndef __SANITIZE_ADDRESS__	/* whose search for leaks needs these two (sandbox.c) */
	require_refused(ptrace(PTRACE_ATTACH, parent, 0, 0));
	require_refused(prctl(PR_SET_DUMPABLE, 1));
#endif
	require_refused(kill(parent, 0));
	require_refused(syscall(SYS_tgkill, parent, parent, 0));
	require_refused(syscall(SYS_io_uring_setup, 8, parameters));
	require_refused(syscall(SYS_bpf, 0, parameters, sizeof(parameters)));
	require_refused(unshare(CLONE_NEWNS));
	require_refused(syscall(SYS_init_module, parameters, 0, ""));
	require_refused(syscall(SYS_process_vm_writev, parent, NULL, 0, NULL, 0, 0));
	require_refused(ioctl(0, BLKRRPART));
	require_refused(syscall(SYS_setuid, 0));
	require_refused(chroot("/"));
}

/* Nor may it have the kernel signal another process about a descriptor; locks and flags are allowed. */
static void only_harmless_fcntl(enum sandbox_kind kind, bool locks)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct f_owner_ex owner = { F_OWNER_PID, getppid() };
	int fd, pair[2];

	require((fd = memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING)) >= 0);
	require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	enter_as(kind);
	require_refused(fcntl(pair[0], F_SETOWN, owner.pid));
	require_refused(fcntl(pair[0], F_SETOWN_EX, &owner));
	require_refused(fcntl(pair[0], F_SETSIG, SIGKILL));
	require_refused(fcntl(pair[0], F_SETFL, O_ASYNC));
	require_refused(fcntl(fd, F_SETLEASE, F_WRLCK));
	require_refused(fcntl(fd, F_NOTIFY, DN_MODIFY | DN_MULTISHOT));
	if (locks) {
		require(!fcntl(pair[0], F_SETFL, fcntl(pair[0], F_GETFL) | O_NONBLOCK));
		require(!fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT) || errno == EINVAL);
		require(!fcntl(fd, F_SETFD, fcntl(fd, F_GETFD)));
		require(!fcntl(fd, F_SETLK, &lock) && !fcntl(fd, F_GETLK, &lock));
		lock.l_pid = 0;
		lock.l_type = F_UNLCK;
		require(!fcntl(fd, F_SETLK, &lock));
		lock.l_type = F_WRLCK;
		require(!fcntl(fd, F_OFD_SETLK, &lock) && !fcntl(fd, F_OFD_GETLK, &lock));
		require(!fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) && fcntl(fd, F_GET_SEALS) == F_SEAL_SHRINK);
		require(fcntl(fd, F_DUPFD_CLOEXEC, 0) >= 0);
	}
	syscall(SYS_exit_group, 0);	/* AddressSanitizer would look for leaks in _exit() */
}

static void alone_fcntl(void)
{
	only_harmless_fcntl(SANDBOX_ALONE, true);
}

static void served_fcntl(void)
{
	only_harmless_fcntl(SANDBOX_SERVED, true);
}

static void opener_fcntl(void)
{
	only_harmless_fcntl(SANDBOX_OPENER, false);
}

static void session_fcntl(void)
{
	only_harmless_fcntl(SANDBOX_TLS, false);
}

static void cannot_gain_privileges(void)
{
	char line[128];
	bool found = false;
	FILE *file;

	enter();
	file = fopen("/proc/self/status", "r");
	require(file != NULL);
	while (fgets(line, sizeof(line), file))
		found |= strcmp(line, "NoNewPrivs:\t1\n") == 0;
	require(found);
}

/* The filter also binds a thread that was started before, and new ones can be started. */

static int stage_pipe[2];

static void *thread_main(void *arg)
{
	char byte;

	require(read(stage_pipe[0], &byte, 1) == 1);
	require_refused(execv("/bin/true", no_arguments));
	require_refused(socket(AF_INET, SOCK_STREAM, 0));
	return arg;
}

static void all_threads(void)
{
	pthread_t before, after;
	void *result;

	require(pipe(stage_pipe) == 0);
	require(pthread_create(&before, NULL, thread_main, stage_pipe) == 0);
	enter();
	require(pthread_create(&after, NULL, thread_main, stage_pipe) == 0);
	require(write(stage_pipe[1], "..", 2) == 2);
	require(pthread_join(before, &result) == 0 && result == stage_pipe);
	require(pthread_join(after, &result) == 0 && result == stage_pipe);
}

/* The engine that was opened before still works, with all its operations. */

static unsigned completed, failed;

static void io_done(struct engine_io *io, int error)
{
	completed++;
	failed += error != 0;
}

static void one_engine(const char *name)
{
	static const enum engine_op ops[] = { ENGINE_WRITE, ENGINE_SYNC, ENGINE_READ, ENGINE_DISCARD, ENGINE_ZERO,
		ENGINE_RESIZE };
	char path[] = "/var/tmp/tapsnap-sandbox-XXXXXX";
	struct engine *engine;
	struct iovec iov;
	int fd, error = engine_open(&engine, name, 64);

	if (error == -ENOSYS || error == -EPERM)
		return;		/* not on this machine */
	require(!error);
	enter();
	fd = mkstemp(path);
	require(fd >= 0 && unlink(path) == 0 && ftruncate(fd, 1 << 20) == 0);
	iov = (struct iovec){ calloc(1, 65536), 65536 };
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct engine_io io = { .op = ops[i], .fd = fd, .length = ops[i] == ENGINE_SYNC ? 0 : 65536, .done = io_done };

		if (ops[i] == ENGINE_READ || ops[i] == ENGINE_WRITE) {
			io.iov = &iov;
			io.iovcnt = 1;
		}
		engine_queue(engine, &io);
		engine_run(engine);
	}
	require(completed == sizeof(ops) / sizeof(ops[0]) && failed == 0);
	engine_close(engine);
}

static void engine_io_uring(void)
{
	one_engine("io_uring");
}

static void engine_libaio_(void)
{
	one_engine("libaio");
}

static void test_other_processes(void **state)
{
	in_child(other_processes_run_where_they_do);
}

static void test_no_new_programs(void **state)
{
	in_child(no_new_programs);
}

static void test_no_names(void **state)
{
	in_child(no_names);
}

static void test_opener_only_opens(void **state)
{
	in_child(opener_only_opens);
}

static void test_session_only_talks(void **state)
{
	in_child(session_only_talks);
}

static void test_no_code_from_data(void **state)
{
	in_child(no_code_from_data);
}

static void test_no_network(void **state)
{
	in_child(no_network);
}

static void test_no_services(void **state)
{
	in_child(no_services);
}

static void test_log_goes_on(void **state)
{
	in_child(log_goes_on);
}

static void test_log_does_not_wait(void **state)
{
	in_child(log_does_not_wait);
	in_child(log_does_not_wait_for_stream);
}

static void test_no_power_over_the_machine(void **state)
{
	in_child(no_power_over_the_machine);
}

static void test_no_signals_by_descriptors(void **state)
{
	in_child(alone_fcntl);
	in_child(served_fcntl);
	in_child(opener_fcntl);
	in_child(session_fcntl);
}

static void test_cannot_gain_privileges(void **state)
{
	in_child(cannot_gain_privileges);
}

static void test_all_threads(void **state)
{
	in_child(all_threads);
}

static void test_engines(void **state)
{
	in_child(engine_io_uring);
	in_child(engine_libaio_);
}

#ifdef __x86_64__
static void *sleep_for_ever(void *arg)
{
	pause();
	return NULL;
}

static void call_foreign_abi(void)
{
	pthread_t thread;

	require(!pthread_create(&thread, NULL, sleep_for_ever, NULL));
	enter();
	syscall(0x40000000 | SYS_getpid);	/* the x32 ABI's entry */
}
#endif

/* A kill ends all threads: a surviving one would keep the locks and sockets of a process that serves nobody. */
static void test_foreign_abi_ends_the_process(void **state)
{
#ifdef __x86_64__
	siginfo_t info = { 0 };
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(10);
		call_foreign_abi();
		_exit(0);
	}
	assert_int_equal(waitid(P_PID, pid, &info, WEXITED), 0);
	assert_true(info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED);
	assert_int_equal(info.si_status, SIGSYS);
#else
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_new_programs),
		cmocka_unit_test(test_other_processes),
		cmocka_unit_test(test_no_names),
		cmocka_unit_test(test_opener_only_opens),
		cmocka_unit_test(test_session_only_talks),
		cmocka_unit_test(test_no_code_from_data),
		cmocka_unit_test(test_no_network),
		cmocka_unit_test(test_no_services),
		cmocka_unit_test(test_log_goes_on),
		cmocka_unit_test(test_log_does_not_wait),
		cmocka_unit_test(test_no_power_over_the_machine),
		cmocka_unit_test(test_no_signals_by_descriptors),
		cmocka_unit_test(test_cannot_gain_privileges),
		cmocka_unit_test(test_all_threads),
		cmocka_unit_test(test_foreign_abi_ends_the_process),
		cmocka_unit_test(test_engines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
