# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenstored.py SOCKET [conflict] - an empty xenstore: takes watches, knows no node.

For programs that are to come up without Xen: XENSTORED_PATH=SOCKET. With
`conflict` it has domain 1 and takes changes, but every transaction conflicts.
"""
import os
import socket
import struct
import sys
import threading

HEADER = struct.Struct("<IIII")     # type, request, transaction, length
READ, WATCH, START, END, WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT, ERROR = 2, 4, 6, 7, 11, 12, 13, 14, 15, 16
conflict = sys.argv[2:] == ["conflict"]


def answer_to(kind, body):
    if kind == WATCH or conflict and kind in (WRITE, MKDIR, RM, SET_PERMS):
        return kind, b"OK\0"
    if conflict and kind == START:
        return kind, b"1\0"
    if conflict and kind == READ and body == b"/local/domain/1\0":
        return kind, b""
    return ERROR, b"EAGAIN\0" if conflict and kind == END and body == b"T\0" else b"ENOENT\0"


def serve(client):
    with client, client.makefile("rb") as stream:
        while header := stream.read(HEADER.size):
            kind, request, transaction, length = HEADER.unpack(header)
            body = stream.read(length)
            answer, reply = answer_to(kind, body)
            client.sendall(HEADER.pack(answer, request, transaction, len(reply)) + reply)
            if kind == WATCH:       # fires once when it is set
                client.sendall(HEADER.pack(WATCH_EVENT, 0, 0, len(body)) + body)


with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1] + ".new")
    listener.listen()
    os.rename(sys.argv[1] + ".new", sys.argv[1])    # whoever sees it can connect
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
