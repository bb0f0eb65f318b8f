# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenstored.py SOCKET [conflict | disk] - an empty xenstore: takes watches, knows no node.

For programs that are to come up without Xen: XENSTORED_PATH=SOCKET. With
`conflict` it has domain 1 and takes changes, but every transaction conflicts.
With `disk` it has the nodes of a new disk of domain 1, and prints what is written,
NODE VALUE.
"""
import os
import socket
import struct
import sys
import threading

HEADER = struct.Struct("<IIII")     # type, request, transaction, length
DIRECTORY, READ, WATCH, START, END, WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT, ERROR = 1, 2, 4, 6, 7, 11, 12, 13, 14, 15, 16
BACKEND = "backend/vbd3/1/51712"
FRONTEND = "/local/domain/1/device/vbd/51712"
conflict, disk = (sys.argv[2:] == [word] for word in ("conflict", "disk"))
nodes = {"backend": "", "backend/vbd3": "", "backend/vbd3/1": "", BACKEND: "", f"{BACKEND}/frontend": FRONTEND,
         f"{BACKEND}/frontend-id": "1", f"{BACKEND}/online": "1", f"{BACKEND}/params": "aio:/srv/x.img", f"{BACKEND}/mode": "w",
         f"{BACKEND}/state": "1", f"{FRONTEND}/state": "1"}


def answer_with_disk(kind, body):
    path, _, value = body.decode().partition("\0")
    if kind == DIRECTORY and path in nodes:
        names = dict.fromkeys(n.removeprefix(path + "/").partition("/")[0] for n in nodes if n.startswith(path + "/"))
        return kind, "".join(name + "\0" for name in names).encode()
    if kind == READ and path in nodes:
        return kind, nodes[path].encode()
    if kind == WRITE:
        nodes[path] = value
        print(path, value, flush=True)
    if kind in (WATCH, WRITE, END):
        return kind, b"OK\0"
    return (kind, b"1\0") if kind == START else (ERROR, b"ENOENT\0")


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
            answer, reply = answer_with_disk(kind, body) if disk else answer_to(kind, body)
            client.sendall(HEADER.pack(answer, request, transaction, len(reply)) + reply)
            if kind == WATCH:       # fires once when it is set
                client.sendall(HEADER.pack(WATCH_EVENT, 0, 0, len(body)) + body)


with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1] + ".new")
    listener.listen()
    os.rename(sys.argv[1] + ".new", sys.argv[1])    # whoever sees it can connect
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
