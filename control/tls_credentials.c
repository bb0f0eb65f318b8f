/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tls_credentials.c - reads keys and certificates, with the file names of
 * QEMU's tls-creds objects, so that one directory serves both.
 *
 * All files are read at the start: the processes that talk to the network
 * cannot open files.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tls.h"

#define PRIORITY	"NORMAL"
#define PRIORITY_PSK	PRIORITY ":+ECDHE-PSK:+DHE-PSK:+PSK"
#define MAX_USERS	256

static struct user {
	char *name;
	gnutls_datum_t key;		/* hexadecimal */
} users[MAX_USERS];
static unsigned nr_users;

static int tls_error(struct error_text *text, const char *what, int error)
{
	return error_set(text, -EINVAL, "%s: %s", what, gnutls_strerror(error));
}

static int file_path(char *path, const char *directory, const char *name, struct error_text *text)
{
	if (snprintf(path, PATH_MAX, "%s/%s", directory, name) >= PATH_MAX)
		return error_set(text, -ENAMETOOLONG, "%s: path too long", directory);
	return 0;
}

static int load_authorities(struct tls_credentials *credentials, const char *directory, struct error_text *text)
{
	char path[PATH_MAX];
	int ret = file_path(path, directory, "ca-cert.pem", text);

	if (ret)
		return ret;
	if (access(path, R_OK) && errno == ENOENT && !credentials->verify)
		return 0;		/* clients need no certificate */
	ret = gnutls_certificate_set_x509_trust_file(credentials->x509, path, GNUTLS_X509_FMT_PEM);
	if (ret < 0)
		return tls_error(text, path, ret);
	ret = file_path(path, directory, "ca-crl.pem", text);
	if (ret || (access(path, F_OK) && errno == ENOENT))
		return ret;
	ret = gnutls_certificate_set_x509_crl_file(credentials->x509, path, GNUTLS_X509_FMT_PEM);
	return ret < 0 ? tls_error(text, path, ret) : 0;
}

static int load_key(struct tls_credentials *credentials, const char *directory, struct error_text *text)
{
	char certificate[PATH_MAX], key[PATH_MAX];
	int ret = file_path(certificate, directory, "server-cert.pem", text);

	if (!ret)
		ret = file_path(key, directory, "server-key.pem", text);
	if (ret)
		return ret;
	ret = gnutls_certificate_set_x509_key_file(credentials->x509, certificate, key, GNUTLS_X509_FMT_PEM);
	return ret < 0 ? tls_error(text, certificate, ret) : 0;
}

static int set_priority(struct tls_credentials *credentials, const char *priority, struct error_text *text)
{
	int ret = gnutls_priority_init(&credentials->priority, priority, NULL);

	return ret < 0 ? tls_error(text, priority, ret) : 0;
}

int tls_credentials_x509(struct tls_credentials *credentials, const char *directory, bool verify, struct error_text *text)
{
	int ret;

	*credentials = (struct tls_credentials){ .verify = verify };
	ret = gnutls_certificate_allocate_credentials(&credentials->x509);
	if (ret < 0)
		return tls_error(text, directory, ret);
	ret = load_authorities(credentials, directory, text);
	if (!ret)
		ret = load_key(credentials, directory, text);
	if (!ret)
		ret = set_priority(credentials, PRIORITY, text);
	return ret;
}

/* Parse a line "NAME:KEY". */
static int add_user(char *line, const char *path, struct error_text *text)
{
	char *colon = strchr(line, ':');

	line[strcspn(line, "\r\n")] = '\0';
	if (!*line)
		return 0;
	if (!colon || colon == line || !colon[1] || strspn(colon + 1, "0123456789abcdefABCDEF") != strlen(colon + 1) ||
	    strlen(colon + 1) % 2)
		return error_set(text, -EINVAL, "%s: line %u is not NAME:KEY, with the key in hexadecimal", path, nr_users + 1);
	if (nr_users == MAX_USERS)
		return error_set(text, -E2BIG, "%s: more than %d keys", path, MAX_USERS);
	users[nr_users].name = strndup(line, colon - line);
	users[nr_users].key.data = (unsigned char *)strdup(colon + 1);
	if (!users[nr_users].name || !users[nr_users].key.data)
		return -ENOMEM;
	users[nr_users++].key.size = (unsigned)strlen(colon + 1);
	return 0;
}

static int load_users(const char *path, struct error_text *text)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	int ret = 0;

	if (!file)
		return error_set(text, -errno, "%s: %s", path, strerror(errno));
	while (!ret && getline(&line, &size, file) > 0)
		ret = add_user(line, path, text);
	free(line);
	fclose(file);
	if (!ret && !nr_users)
		ret = error_set(text, -EINVAL, "%s: contains no key", path);
	return ret;
}

/* Copies the key, because GnuTLS frees it. */
static int find_key(gnutls_session_t session, const char *name, gnutls_datum_t *key)
{
	unsigned i;

	for (i = 0; i < nr_users && strcmp(users[i].name, name); i++)
		;
	return i < nr_users && !gnutls_hex_decode2(&users[i].key, key) ? 0 : -1;
}

int tls_credentials_psk(struct tls_credentials *credentials, const char *directory, struct error_text *text)
{
	char path[PATH_MAX];
	int ret;

	*credentials = (struct tls_credentials){ 0 };
	ret = gnutls_psk_allocate_server_credentials(&credentials->psk);
	if (ret < 0)
		return tls_error(text, directory, ret);
	ret = gnutls_psk_set_server_known_dh_params(credentials->psk, GNUTLS_SEC_PARAM_MEDIUM);
	if (ret < 0)
		return tls_error(text, directory, ret);
	gnutls_psk_set_server_credentials_function(credentials->psk, find_key);
	ret = file_path(path, directory, "keys.psk", text);
	if (!ret)
		ret = load_users(path, text);
	if (!ret)
		ret = set_priority(credentials, PRIORITY_PSK, text);
	return ret;
}

void tls_credentials_free(struct tls_credentials *credentials)
{
	if (credentials->x509)
		gnutls_certificate_free_credentials(credentials->x509);
	if (credentials->psk)
		gnutls_psk_free_server_credentials(credentials->psk);
	if (credentials->priority)
		gnutls_priority_deinit(credentials->priority);
	while (nr_users) {
		free(users[--nr_users].name);
		free(users[nr_users].key.data);
	}
}
