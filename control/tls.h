/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tls.h - what the parts of tapdisk-tls share: tls.c, tls_credentials.c, tls_process.c, tls_session.c. */
#ifndef CONTROL_TLS_H
#define CONTROL_TLS_H

#include <stdbool.h>
#include <gnutls/gnutls.h>
#include <linux/filter.h>

#include "error.h"

struct tls_credentials {
	gnutls_certificate_credentials_t x509;	/* one of these two */
	gnutls_psk_server_credentials_t psk;
	gnutls_priority_t priority;
	bool verify;				/* clients need a certificate that the CA has signed */
};

/* From a directory with QEMU's names of files, all read now. 0 or -errno. */
int tls_credentials_x509(struct tls_credentials *credentials, const char *directory, bool verify, struct error_text *text);
int tls_credentials_psk(struct tls_credentials *credentials, const char *directory, struct error_text *text);
void tls_credentials_free(struct tls_credentials *credentials);

/*
 * The life of a client's process, which has just been made and ends here. @filter: its system calls (sandbox.h). @reports:
 * where why it ended is written, a line, if it was not the client's wish. The rest is tls_session_run()'s.
 */
void tls_process_run(const struct tls_credentials *credentials, const struct sock_fprog *filter, int client, int connector,
		     int reports) __attribute__((noreturn));
/* A line for the log; dropped when there is no room. */
void tls_report(int reports, const char *problem);

/*
 * One client, from its first byte to its last, in a process of its own.
 * @client: its socket. @connector: a byte sent there is answered with a
 * connection to the NBD server (SCM_RIGHTS). NULL, or what went wrong, in
 * words.
 */
const char *tls_session_run(const struct tls_credentials *credentials, int client, int connector);
extern unsigned tls_stall_ms;			/* one that takes nothing for so long is cut off; tests set it */

#endif
