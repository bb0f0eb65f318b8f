/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_nbd_pause.c - the disk of an NBD server is paused while clients have
 * requests.
 */
#include <sys/stat.h>

#include "nbd_client.h"
#include "nbd_connection.h"

static void test_pause(void **state)
{
	struct pollfd ready = { .events = POLLIN };
	uint8_t data[4096];
	uint64_t cookie;
	int fd = client_go(), other;

	assert_int_equal(server_command('p'), 'k');
	memset(data, 0x11, sizeof(data));
	client_request(fd, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 1, 8192, sizeof(data));
	client_send(fd, data, sizeof(data));

	/* a client may still connect, disconnect or vanish while requests wait */
	other = client_go();
	client_request(other, NBD_CMD_READ, 0, 2, 0, 4096);
	close(other);
	ready.fd = fd;
	assert_int_equal(poll(&ready, 1, 100), 0);

	assert_int_equal(server_command('u'), 'k');
	assert_int_equal(client_reply(fd, &cookie), 0);
	assert_int_equal(cookie, 1);
	memset(data, 0, sizeof(data));
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 8192, sizeof(data), data), 0);
	assert_int_equal(data[4095], 0x11);
	client_leave(fd);
}

/* The pause waits for the piece that is at the disk; the other pieces follow after it. */
static void test_pause_between_pieces(void **state)
{
	struct stat status;
	uint64_t cookie;
	int fd = client_go();

	assert_int_equal(server_command('w'), 'k');
	client_request(fd, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FUA, 1, 0, DISK_BYTES);
	expect_service();
	assert_int_equal(write(control, "p", 1), 1);
	assert_int_equal(server_command('r'), 'k');
	assert_int_equal(server_command(0), 'k');
	assert_int_equal(stat(image, &status), 0);
	assert_in_range(status.st_blocks, NBD_PIECE_SIZE / 512, 2 * NBD_PIECE_SIZE / 512);

	assert_int_equal(server_command('u'), 'k');
	assert_int_equal(client_reply(fd, &cookie), 0);
	assert_int_equal(stat(image, &status), 0);
	assert_true(status.st_blocks >= DISK_BYTES / 512);
	client_leave(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_FILE(test_pause),
		ON_FILE(test_pause_between_pieces),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
