/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tls_clients.c - who is connected to tapdisk-tls (tls_clients.h). */
#include "tls_clients.h"

#include <assert.h>
#include <signal.h>
#include <string.h>

#define MAX_ALL (sizeof(((struct tls_clients *)NULL)->list) / sizeof(struct tls_client))

/* Strangers may become clients after they were accepted: then there are more clients than that, but none comes. */
bool tls_clients_have_room(const struct tls_clients *clients)
{
	return clients->count - clients->strangers < TLS_MAX_CLIENTS;
}

static struct tls_client *find(struct tls_clients *clients, pid_t pid)
{
	for (unsigned i = 0; i < clients->count; i++)
		if (clients->list[i].pid == pid)
			return &clients->list[i];
	return NULL;
}

void tls_clients_remove(struct tls_clients *clients, pid_t pid)
{
	struct tls_client *client = find(clients, pid);

	if (!client)
		return;
	clients->strangers -= client->stranger;
	clients->count--;
	memmove(client, client + 1, (&clients->list[clients->count] - client) * sizeof(*client));
}

bool tls_clients_make_room(struct tls_clients *clients)
{
	unsigned oldest = 0;
	pid_t pid;

	if (clients->strangers < TLS_MAX_STRANGERS)
		return false;
	while (!clients->list[oldest].stranger)
		oldest++;
	pid = clients->list[oldest].pid;
	/* its group, because the session may not have asked yet to end with its parent; not reaped, so the number is its own */
	kill(-pid, SIGKILL);
	tls_clients_remove(clients, pid);
	return true;
}

void tls_clients_add(struct tls_clients *clients, pid_t pid)
{
	assert(clients->count < MAX_ALL);
	clients->list[clients->count++] = (struct tls_client){ pid, true };
	clients->strangers++;
}

void tls_clients_let_in(struct tls_clients *clients, pid_t pid)
{
	struct tls_client *client = find(clients, pid);

	if (!client || !client->stranger)
		return;
	client->stranger = false;
	clients->strangers--;
}
