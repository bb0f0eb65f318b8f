/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_known.c - which disks of a domain libxl knows. Its functions and
 * libxenstore's that are used for that are here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <libxl.h>
#include <xenstore.h>

#include "array.h"
#include "domain.h"
#include "fixture.h"

#define BACKENDS "/local/domain/0/backend/vbd3/7"
#define LISTED "/libxl/7/device/vbd"

static bool libxl_fails;
static unsigned listed;		/* disks in libxl's directory: xvda, then xvdb, whose backend is in another domain */

static char **directory_of(unsigned number, unsigned *count)
{
	static char first[] = "51712", second[] = "51728";
	char **names = calloc(2, sizeof(*names));

	names[0] = first;
	names[1] = second;
	*count = number;
	return names;
}

char **xs_directory(struct xs_handle *xs, xs_transaction_t transaction, const char *path, unsigned *count)
{
	*count = 0;
	if (!strcmp(path, BACKENDS))
		return directory_of(1, count);
	if (!strcmp(path, LISTED) && listed)
		return directory_of(listed, count);
	errno = ENOENT;
	return NULL;
}

void *xs_read(struct xs_handle *xs, xs_transaction_t transaction, const char *path, unsigned *length)
{
	static const char *const nodes[][2] = {
		{ BACKENDS "/51712/dev", "xvda" }, { BACKENDS "/51712/mode", "w" }, { BACKENDS "/51712/pid", "99" },
		{ BACKENDS "/51712/minor", "3" }, { "domid", "0" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		if (!strcmp(path, nodes[i][0]))
			return strdup(nodes[i][1]);
	}
	errno = ENOENT;
	return NULL;
}

libxl_device_disk *libxl_device_disk_list(libxl_ctx *ctx, uint32_t domid, int *count)
{
	libxl_device_disk *disks = listed && !libxl_fails ? calloc(listed, sizeof(*disks)) : NULL;

	*count = disks ? (int)listed : 0;
	for (int i = 0; i < *count; i++) {
		disks[i].vdev = strdup(i ? "xvdb" : "xvda");
		disks[i].readwrite = 1;
	}
	return disks;
}

void libxl_device_disk_list_free(libxl_device_disk *disks, int count)
{
	for (int i = 0; i < count; i++)
		free(disks[i].vdev);
	free(disks);
}

static int read_disks(struct domain_disks *disks, struct error_text *text)
{
	*disks = (struct domain_disks){ 0 };
	return xen_read_disks(NULL, NULL, 7, disks, text);
}

static void test_known(void **state)
{
	struct error_text text = { "" };
	struct domain_disks disks;

	listed = 2;
	assert_int_equal(read_disks(&disks, &text), 0);
	assert_int_equal(disks.count, 2);
	assert_string_equal(disks.disk[0].vdev, "xvda");
	assert_int_equal(disks.disk[0].pid, 99);
	assert_string_equal(disks.disk[1].vdev, "xvdb");
	assert_true(disks.disk[0].configured && disks.disk[1].configured);
	disks_free(&disks);
}

/* A disk that was attached without libxl. */
static void test_unknown(void **state)
{
	struct error_text text = { "" };
	struct domain_disks disks;

	listed = 0;
	assert_int_equal(read_disks(&disks, &text), 0);
	assert_int_equal(disks.count, 1);
	assert_false(disks.disk[0].configured);
	disks_free(&disks);
}

/* No list does not mean no disk: then a snapshot would miss those of other backends, and none would be restored. */
static void test_list_fails(void **state)
{
	struct error_text text = { "" };
	struct domain_disks disks;

	libxl_fails = true;
	for (listed = 1; listed <= 2; listed++) {
		assert_int_equal(read_disks(&disks, &text), -EIO);
		assert_non_null(strstr(text.text, "libxl cannot list the domain's disks"));
		disks_free(&disks);
	}
	libxl_fails = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_list_fails),
	};

	return cmocka_run_group_tests_name("domain: the disks that libxl knows", tests, NULL, NULL);
}
