# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenstored.py SOCKET - an empty xenstore: takes watches, knows no node.

For programs that are to come up without Xen: XENSTORED_PATH=SOCKET.
"""
import os
import socket
import struct
import sys
import threading

HEADER = struct.Struct("<IIII")     # type, request, transaction, length
WATCH, WATCH_EVENT, ERROR = 4, 15, 16


def serve(client):
    with client, client.makefile("rb") as stream:
        while header := stream.read(HEADER.size):
            kind, request, transaction, length = HEADER.unpack(header)
            body = stream.read(length)
            answer, reply = (WATCH, b"OK\0") if kind == WATCH else (ERROR, b"ENOENT\0")
            client.sendall(HEADER.pack(answer, request, transaction, len(reply)) + reply)
            if kind == WATCH:       # fires once when it is set
                client.sendall(HEADER.pack(WATCH_EVENT, 0, 0, len(body)) + body)


with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1] + ".new")
    listener.listen()
    os.rename(sys.argv[1] + ".new", sys.argv[1])    # whoever sees it can connect
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
