/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tls.h - shared by the parts of tapdisk-tls: tls.c, tls_credentials.c, tls_process.c, tls_session.c. */
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

/* Read all credentials from a directory, with QEMU's file names. 0 or -errno. */
int tls_credentials_x509(struct tls_credentials *credentials, const char *directory, bool verify, struct error_text *text);
int tls_credentials_psk(struct tls_credentials *credentials, const char *directory, struct error_text *text);
void tls_credentials_free(struct tls_credentials *credentials);

/*
 * Run a client's process after the fork, until its end. @filter: its system calls (sandbox.h). @reports: gets a line that
 * says why the session ended, unless the client ended it. The other arguments are those of tls_session_run().
 */
void tls_process_run(const struct tls_credentials *credentials, const struct sock_fprog *filter, int client, int connector,
		     int reports) __attribute__((noreturn));
/* Write a line for the log; dropped if the pipe is full. */
void tls_report(int reports, const char *problem);

/*
 * Serve one client from its first byte to its last, in its own process.
 * @client: its socket. @connector: a byte sent there is answered with a
 * connection to the NBD server (SCM_RIGHTS). Returns NULL, or a message
 * that says what went wrong.
 */
const char *tls_session_run(const struct tls_credentials *credentials, int client, int connector);
extern unsigned tls_stall_ms;			/* a client that reads nothing for this long is cut off; tests set it */

#endif
