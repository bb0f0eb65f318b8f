/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd.h - the disk as an NBD export on a Unix socket, for QEMU (an HVM
 * guest's emulated disk), nbd-client, nbdcopy and other readers on the host.
 */
#ifndef TAPDISK_NBD_H
#define TAPDISK_NBD_H

#include "vbd.h"

struct nbd_server;

/* Listen on the run dir's nbd<pid>.<minor> (mode 0600). 0 or -errno. */
int nbd_server_start(struct nbd_server **server, struct vbd *vbd, const char *path, struct error_text *text);
/* End all connections (their requests in flight have been drained) and remove the socket. */
void nbd_server_stop(struct nbd_server *server);
unsigned nbd_server_connections(const struct nbd_server *server);
/* What all its connections did, past ones too. */
const struct queue_stats *nbd_server_stats(const struct nbd_server *server);

#endif
