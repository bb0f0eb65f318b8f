/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tls_clients.h - who is connected to tapdisk-tls: clients that have shown their
 * credentials, and strangers, which have not yet.
 *
 * The two are counted apart, so that strangers cannot keep clients out: a new
 * connection always gets a place, if need be that of the stranger who has been
 * there longest. Only clients can fill the places of clients.
 */
#ifndef CONTROL_TLS_CLIENTS_H
#define CONTROL_TLS_CLIENTS_H

#include <stdbool.h>
#include <sys/types.h>

#define TLS_MAX_CLIENTS		16u
#define TLS_MAX_STRANGERS	16u

struct tls_clients {
	unsigned count, strangers;
	struct tls_client {
		pid_t pid;		/* of its connector, which leads a process group */
		bool stranger;
	} list[TLS_MAX_CLIENTS + TLS_MAX_STRANGERS];	/* the oldest first */
};

/* False: accept nobody now. */
bool tls_clients_have_room(const struct tls_clients *clients);
/* Make room for another stranger; true: one had to go, and its processes were killed. */
bool tls_clients_make_room(struct tls_clients *clients);
void tls_clients_add(struct tls_clients *clients, pid_t pid);
/* It has shown its credentials. These two ignore processes that are not in the list. */
void tls_clients_let_in(struct tls_clients *clients, pid_t pid);
void tls_clients_remove(struct tls_clients *clients, pid_t pid);

#endif
