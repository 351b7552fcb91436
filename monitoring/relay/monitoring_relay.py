#!/usr/bin/env -S python3 -I
"""Takes the exporter's connections to the tenants' servers, by the proxy and its TLS, and logs in for it.

The exporter connects in plain text, on a network that it shares with this program alone, and names the tenant as its
database. Each tenant's server has a role for it, whose password follows from one key and the tenant's id; the exporter
knows neither. A server may be hostile: it proves that it knows the password before it is asked anything but SCRAM, and
each connection has an end, in seconds and in bytes. Which tenants there are is in the proxy's routes.

    monitoring_relay.py PROXY PORT ROUTES-FOLDER KEY-FILE

https://www.postgresql.org/docs/18/protocol-message-formats.html
https://www.postgresql.org/docs/18/sasl-authentication.html
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import ssl
import struct
import sys

ROLE = "pgs_monitor"
PROTOCOL, SSL = 196608, 80877103
# Seconds that a connection may last, and bytes that a server may answer on it.
PATIENCE, MOST = 10, 512 << 10
# Connections at a time, of all tenants and of one: a server that hangs holds up no other's.
CONNECTIONS, PER_TENANT = 400, 4
# Iterations that a server may ask for: PostgreSQL's default is 4096.
MOST_ITERATIONS = 100_000
# What counts there whatever the tenant has set for the role.
OPTIONS = (
    "-c statement_timeout=5s -c lock_timeout=1s -c default_transaction_read_only=on -c search_path=public"
)


class Refused(Exception):
    """For the exporter's log."""


def tenants_in(folder):
    """By id, what the first line of a tenant's route says to monitoring."""
    found = {}
    for entry in os.scandir(folder):
        if not re.fullmatch(r"route-.*\.yml", entry.name):
            continue
        try:
            with open(entry.path, encoding="utf-8") as file:
                line = file.readline(4096)
            if line.startswith("# monitoring: "):
                tenant = json.loads(line[len("# monitoring: ") :])
                found[tenant["tenant"]] = tenant
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


class Tenants:
    """Read again when the folder has changed: a route is written by a rename."""

    def __init__(self, folder):
        self.folder = folder
        self.changed, self.known = None, {}

    def host(self, tenant):
        changed = os.stat(self.folder).st_mtime_ns
        if changed != self.changed:
            self.known = tenants_in(self.folder)
            self.changed = changed
        host = self.known.get(tenant, {}).get("host")
        if not isinstance(host, str):
            raise Refused("no such tenant")
        return host


def password(key, tenant):
    """The same as in components/monitoring.ts."""
    return hmac.new(key, tenant.encode(), hashlib.sha256).hexdigest()


# By password, salt and iterations: each takes some milliseconds.
SALTED = {}


class Scram:
    """A client of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding. The password is ASCII."""

    def __init__(self, secret, nonce=None):
        self.secret, self.nonce = secret, nonce or secrets.token_urlsafe(18)
        self.bare = f"n=,r={self.nonce}"

    def first(self):
        return f"n,,{self.bare}".encode()

    def final(self, challenge):
        found = re.fullmatch(r"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=(\d{1,9})(,.*)?", challenge)
        if not found or not found[1].startswith(self.nonce) or int(found[3]) > MOST_ITERATIONS:
            raise Refused("the server's challenge is none")
        salted = self._salted(base64.b64decode(found[2]), int(found[3]))
        client = self._hmac(salted, "Client Key")
        without_proof = f"c=biws,r={found[1]}"
        auth = f"{self.bare},{challenge},{without_proof}"
        signature = self._hmac(hashlib.sha256(client).digest(), auth)
        proof = bytes(one ^ other for one, other in zip(client, signature, strict=True))
        self.server_signature = self._hmac(self._hmac(salted, "Server Key"), auth)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, answer):
        found = re.fullmatch(r"v=([A-Za-z0-9+/=]+)(,.*)?", answer)
        if not found or not hmac.compare_digest(base64.b64decode(found[1]), self.server_signature):
            raise Refused("the server does not know the password")

    def _salted(self, salt, iterations):
        key = (self.secret, salt, iterations)
        if key not in SALTED:
            if len(SALTED) > 2000:
                SALTED.clear()
            SALTED[key] = hashlib.pbkdf2_hmac("sha256", self.secret.encode(), salt, max(1, iterations))
        return SALTED[key]

    @staticmethod
    def _hmac(key, text):
        return hmac.new(key, text.encode(), hashlib.sha256).digest()


def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


def startup(tenant):
    parameters = {"user": ROLE, "database": tenant, "application_name": ROLE, "options": OPTIONS}
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, PROTOCOL) + body


def error_response(text):
    fields = b"SFATAL\0VFATAL\0C08006\0M" + text.encode() + b"\0\0"
    return message(b"E", fields)


async def read_message(reader, most=8192):
    kind, length = struct.unpack("!ci", await reader.readexactly(5))
    if not 4 <= length <= most:
        raise Refused("the server's message is too long")
    return kind, await reader.readexactly(length - 4)


async def read_startup(reader):
    """The tenant that the exporter names."""
    length, code = struct.unpack("!ii", await reader.readexactly(8))
    if code != PROTOCOL or not 8 <= length <= 4096:
        raise Refused("not the startup of a session")
    words = (await reader.readexactly(length - 8)).decode().split("\0")
    return dict(zip(words[::2], words[1::2], strict=False)).get("database", "")


async def log_in(reader, writer, secret):
    """Until the server lets the session in. It gets no other proof of the password than that of SCRAM."""
    scram = Scram(secret)
    while True:
        kind, body = await read_message(reader)
        if kind == b"E":
            raise Refused("the server refuses the login")
        if kind != b"R":
            raise Refused("the server does not speak PostgreSQL's protocol")
        (step,) = struct.unpack("!i", body[:4])
        if step == 0:
            return
        if step == 10 and b"SCRAM-SHA-256\0" in body[4:]:
            first = scram.first()
            writer.write(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first))
        elif step == 11:
            writer.write(message(b"p", scram.final(body[4:].decode())))
        elif step == 12:
            scram.verify(body[4:].decode())
        else:
            raise Refused("the server asks for the password in another way than SCRAM-SHA-256")


async def copy(reader, writer, most):
    while data := await reader.read(65536):
        most -= len(data)
        if most < 0:
            raise Refused("the server answers with too much")
        writer.write(data)
        await writer.drain()


class Relay:
    def __init__(self, proxy, port, tenants, key_file):
        self.proxy, self.port, self.tenants, self.key_file = proxy, port, tenants, key_file
        self.open = {}
        # Proxy and server are on networks of the stack's own, and the login proves that the server is the tenant's.
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE
        self.tls.set_alpn_protocols(["postgresql"])

    async def client(self, reader, writer):
        try:
            async with asyncio.timeout(PATIENCE):
                await self.serve(reader, writer)
        except Refused as reason:
            writer.write(error_response(str(reason)))
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def serve(self, reader, writer):
        tenant = await read_startup(reader)
        host = self.tenants.host(tenant)
        if self.open.get(tenant, 0) >= PER_TENANT or sum(self.open.values()) >= CONNECTIONS:
            raise Refused("too many connections to the server")
        self.open[tenant] = self.open.get(tenant, 0) + 1
        try:
            await self.pass_on(tenant, host, reader, writer)
        finally:
            self.open[tenant] -= 1
            if not self.open[tenant]:
                del self.open[tenant]

    async def pass_on(self, tenant, host, reader, writer):
        with open(self.key_file, "rb") as file:
            secret = password(file.read().strip(), tenant)
        server, to_server = await asyncio.open_connection(self.proxy, self.port)
        try:
            to_server.write(struct.pack("!ii", 8, SSL))
            if await server.readexactly(1) != b"S":
                raise Refused("the proxy does not answer")
            await to_server.start_tls(self.tls, server_hostname=host)
            to_server.write(startup(tenant))
            await log_in(server, to_server, secret)
            writer.write(message(b"R", struct.pack("!i", 0)))
            ways = [
                asyncio.create_task(copy(reader, to_server, MOST)),
                asyncio.create_task(copy(server, writer, MOST)),
            ]
            try:
                done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in done:
                    way.result()
            finally:
                for way in ways:
                    way.cancel()
        finally:
            to_server.transport.abort()


async def serve(proxy, port, folder, key_file):
    relay = Relay(proxy, int(port), Tenants(folder), key_file)
    server = await asyncio.start_server(relay.client, None, 5432)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:5]))
