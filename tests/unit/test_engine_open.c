/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_engine_open.c - the choice of an engine, and its opening where
 * something is missing.
 */
#include <seccomp.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "array.h"
#include "engine_ios.h"

static int lowest_free_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	close(fd);
	return fd;
}

/* With one descriptor more each time: until the open works, nothing is left open. */
static void failed_open_leaves_nothing(void **state)
{
	struct rlimit limit, low;
	struct engine *engine;
	int base = lowest_free_fd();
	int n, ret = -EMFILE;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (n = 0; ret; n++) {
		low = limit;
		low.rlim_cur = base + n;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
		ret = engine_open(&engine, *state, DEPTH);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		if (ret)
			assert_int_equal(ret, -EMFILE);
		else
			engine_close(engine);
		assert_int_equal(lowest_free_fd(), base);
	}
}

static void unknown_engine(void **state)
{
	struct engine *engine;

	assert_int_equal(engine_open(&engine, "floppy", 1), -EINVAL);
}

/* Where io_uring is not permitted, libaio is used, and its name is reported. */
static void falls_back_to_libaio(void **state)
{
	static const int errors[] = { EPERM, ENOSYS, ENOMEM };
	int status;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(errors); i++) {
		pid_t child = fork();

		if (!child) {
			scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
			struct engine *engine;

			if (!filter || seccomp_rule_add(filter, SCMP_ACT_ERRNO(errors[i]), SCMP_SYS(io_uring_setup), 0) ||
			    seccomp_load(filter))
				_exit(2);
			_exit(engine_open(&engine, NULL, DEPTH) || strcmp(engine->ops->name, "libaio"));
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOR_EACH_ENGINE(failed_open_leaves_nothing),
		cmocka_unit_test(unknown_engine),
		cmocka_unit_test(falls_back_to_libaio),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
