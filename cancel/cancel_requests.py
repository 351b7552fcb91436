#!/usr/bin/env -S python3 -I
"""Passes cancel requests on to the tenants' servers.

psql up to 18 and most drivers send Ctrl-C as a packet in plain text, on a connection of its own, which says neither whose
server it is for nor who asks. The proxy brings here what is not TLS; each tenant's server gets the packet, through the
proxy again. That one is told by the PROXY protocol that the packet comes from an address which stands for the server: a TLS
handshake for its hostname would cost more than all else. The server that gave out the key cancels, and the others ignore
it. Nothing is kept: the addresses are those of the routes that the proxy has at this moment.

    cancel_requests.py PROXY PORT ROUTES-FOLDER

https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
https://www.postgresql.org/docs/18/protocol-message-formats.html
https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
"""

import asyncio
import os
import re
import socket
import struct
import sys
import time

CORES = os.cpu_count() or 1
CANCEL, GSSENC = 80877102, 80877104
# Bytes: length, code, process id, and a key of 4 to 256 (protocol 3.2).
SHORTEST, LONGEST = 16, 268
# Seconds that a client has to send its packet, that a request waits for its turn, and that a server has to deal with it.
PATIENCE = 5
# Seconds that a client waits for the servers: one that hangs must not hold up the others' clients.
WAIT = 1
# Connections of clients, and servers asked at a time for all of them together: enough to keep a few cores busy.
CLIENTS, AT_ONCE = 500, 32
# Beside these, servers at a time that were silent when they were asked last.
SILENT_AT_ONCE = 16


class Budget:
    """Tokens that grow back with time: `rate` a second, up to `most`."""

    def __init__(self, rate, most, now=time.monotonic):
        self.rate, self.most, self.now = rate, most, now
        self.left, self.since = most, now()

    def take(self, tokens, reserve=0):
        """Whether there are as many above the reserve. More than it can ever hold is had when it is full, and is owed."""
        now = self.now()
        self.left = min(self.most, self.left + (now - self.since) * self.rate)
        self.since = now
        if self.left - reserve < min(tokens, self.most - reserve):
            return False
        self.left -= tokens
        return True


class Limits:
    """Servers asked a second. An address that has used up its own share leaves half of all to those that have not.

    Each takes service, proxy and server some milliseconds of a core together. For each core there are as many as keep
    a flood from costing a tenth of it, and half a minute's worth at once (bench/suite/cancel.ts).
    """

    RATE, MOST = 10, 300
    # Of an address, as parts of all.
    SHARE_OF_RATE, SHARE_OF_MOST = 0.25, 0.4
    ADDRESSES = 10_000

    def __init__(self, now=time.monotonic, cores=CORES):
        self.now = now
        self.addresses = {}
        self.all = Budget(self.RATE * cores, self.MOST * cores, now)

    def allow(self, address, hosts):
        if len(self.addresses) >= self.ADDRESSES:
            self.addresses.clear()
        share = Budget(self.all.rate * self.SHARE_OF_RATE, self.all.most * self.SHARE_OF_MOST, self.now)
        own = self.addresses.setdefault(address, share)
        return self.all.take(hosts, 0 if own.take(hosts) else self.all.most / 2)


class Routes:
    """The addresses that stand for servers in the proxy's routes."""

    def __init__(self, folder):
        self.folder = folder
        self.changed, self.hosts = None, []

    def current(self):
        # A route is written by a rename, which changes the folder's own time.
        changed = os.stat(self.folder).st_mtime_ns
        if changed != self.changed:
            self.hosts = sorted(set(self._read()))
            self.changed = changed
        return self.hosts

    def _read(self):
        for entry in os.scandir(self.folder):
            if re.fullmatch(r"route-.*\.yml", entry.name):
                with open(entry.path, encoding="utf-8") as file:
                    yield from re.findall(r"ClientIP\(`(fd[0-9a-f:]+)`\)", file.read())


def error_response(message, code=b"28000"):
    """What libpq shows as `FATAL:  message`."""
    fields = b"SFATAL\0VFATAL\0C" + code + b"\0M" + message.encode() + b"\0\0"
    return b"E" + struct.pack("!i", len(fields) + 4) + fields


async def read_packet(reader):
    """The first packet of a client, and the address that the proxy says it comes from."""
    line = (await reader.readuntil(b"\r\n")).split()
    address = line[2] if len(line) > 2 and line[0] == b"PROXY" else b"?"
    head = await reader.readexactly(8)
    length, code = struct.unpack("!ii", head)
    if code == CANCEL and SHORTEST <= length <= LONGEST:
        return address, code, head + await reader.readexactly(length - 8)
    return address, code, head


class Service:
    def __init__(self, proxy, routes, limits, port):
        self.proxy, self.routes, self.limits, self.port = proxy, routes, limits, port
        self.clients = 0
        self.slots, self.silent_slots = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(SILENT_AT_ONCE)
        self.silent, self.asking = set(), set()

    async def client(self, reader, writer):
        self.clients += 1
        try:
            if self.clients <= CLIENTS:
                await self.serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.clients -= 1
            # The client takes the end as a sign that its request was handled.
            writer.close()

    async def serve(self, reader, writer):
        async with asyncio.timeout(PATIENCE):
            address, code, packet = await read_packet(reader)
        if code == CANCEL:
            await self.cancel(address, packet)
        else:
            await self.admitted(address, 1)
            # To GSSENCRequest too: libpq then goes on by TLS, on a connection that the proxy sees as such.
            writer.write(error_response("TLS is required: connect with sslmode=require or verify-full"))
            async with asyncio.timeout(PATIENCE):
                await writer.drain()

    async def admitted(self, address, hosts):
        """Past the limits it waits: meanwhile the proxy counts its connection, and refuses the next ones of a flood."""
        deadline = time.monotonic() + PATIENCE
        while not self.limits.allow(address, hosts):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.5)
        return True

    async def cancel(self, address, packet):
        if len(packet) < SHORTEST:
            return
        hosts = self.routes.current()
        if not hosts or not await self.admitted(address, len(hosts)):
            return
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.proxy, self.port, family=socket.AF_INET, type=socket.SOCK_STREAM)
        proxy = found[0][4][0]
        self.silent.intersection_update(hosts)
        awaited = []
        for host in hosts:
            task = asyncio.create_task(self.ask(proxy, host, packet))
            self.asking.add(task)
            task.add_done_callback(self.asking.discard)
            if host not in self.silent:
                awaited.append(task)
        if awaited:
            await asyncio.wait(awaited, timeout=WAIT)

    async def ask(self, proxy, host, packet):
        """One server. Whatever goes wrong there is no concern of the others."""
        asked = False
        try:
            async with asyncio.timeout(PATIENCE), self.silent_slots if host in self.silent else self.slots:
                asked = True
                await self.pass_on(proxy, host, packet)
            self.silent.discard(host)
        except TimeoutError:
            if asked:
                self.silent.add(host)
        except (OSError, asyncio.IncompleteReadError):
            self.silent.discard(host)

    async def pass_on(self, proxy, host, packet):
        loop = asyncio.get_running_loop()
        with socket.socket() as connection:
            connection.setblocking(False)
            await loop.sock_connect(connection, (proxy, self.port))
            await loop.sock_sendall(connection, f"PROXY TCP6 {host} {host} 1 1\r\n".encode() + packet)
            # A server closes without a word when it has dealt with the request.
            await loop.sock_recv(connection, 1)


async def serve(proxy, port, folder):
    service = Service(proxy, Routes(folder), Limits(), int(port))
    server = await asyncio.start_server(service.client, None, 5432, limit=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
