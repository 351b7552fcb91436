import asyncio
import hashlib
import hmac
import json
import os
import struct
import tempfile
import unittest

import monitoring_relay as relay


def feed(data):
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


class Sink:
    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += data

    async def drain(self):
        pass


def request(step, body=b""):
    return relay.message(b"R", struct.pack("!i", step) + body)


class ScramTest(unittest.TestCase):
    def test_answers_as_the_rfc_does(self):
        # RFC 7677, section 3; its user name is in no message of PostgreSQL's.
        scram = relay.Scram("pencil", "rOprNGfwEbeRWgbNEkqO")
        scram.bare = "n=user,r=rOprNGfwEbeRWgbNEkqO"
        final = scram.final(
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        )
        self.assertTrue(final.endswith(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
        scram.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        with self.assertRaises(relay.Refused):
            scram.verify("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")

    def test_refuses_an_odd_challenge(self):
        for challenge in ["", "r=other,s=AAAA,i=1", "r=mine1,s=AAAA,i=999999999", "e=other-error"]:
            with self.assertRaises(relay.Refused, msg=challenge):
                relay.Scram("x", "mine").final(challenge)


class LogInTest(unittest.IsolatedAsyncioTestCase):
    async def test_never_shows_the_password(self):
        for step in (3, 5, 7, 9):
            sink = Sink()
            with self.assertRaises(relay.Refused):
                await relay.log_in(feed(request(step, b"salt")), sink, "secret")
            self.assertEqual(sink.data, b"")

    async def test_goes_on_with_a_server_that_trusts(self):
        await relay.log_in(feed(request(0)), Sink(), "secret")

    async def test_refuses_messages_of_any_length(self):
        for data in (b"R" + struct.pack("!i", 2**30), b"R" + struct.pack("!i", 1), b"HTTP/1.1"):
            with self.assertRaises(relay.Refused):
                await relay.log_in(feed(data), Sink(), "secret")

    async def test_bounds_what_a_server_answers(self):
        with self.assertRaises(relay.Refused):
            await relay.copy(feed(b"x" * 100), Sink(), 99)


class StartupTest(unittest.IsolatedAsyncioTestCase):
    async def test_reads_back_its_own(self):
        self.assertEqual(await relay.read_startup(feed(relay.startup("acme"))), "acme")

    async def test_refuses_what_is_no_session(self):
        with self.assertRaises(relay.Refused):
            await relay.read_startup(feed(struct.pack("!ii", 8, relay.SSL)))


class TenantsTest(unittest.TestCase):
    def test_knows_the_tenants_of_the_routes(self):
        with tempfile.TemporaryDirectory() as folder:

            def write(name, text):
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write(text)

            line = json.dumps({"tenant": "acme", "host": "acme.pgs.localhost"})
            write("route-acme.yml", f"# monitoring: {line}\ntcp: {{}}\n")
            write("route-odd.yml", "# monitoring: {\n")
            write("route-old.yml", "tcp: {}\n")
            write("certificate.yml", f"# monitoring: {line}\n")
            tenants = relay.Tenants(folder)
            self.assertEqual(tenants.host("acme"), "acme.pgs.localhost")
            for unknown in ("odd", "old", "", "acme\0"):
                with self.assertRaises(relay.Refused):
                    tenants.host(unknown)
            os.remove(os.path.join(folder, "route-acme.yml"))
            with self.assertRaises(relay.Refused):
                tenants.host("acme")

    def test_password_follows_from_key_and_tenant(self):
        expected = hmac.new(b"key", b"acme", hashlib.sha256).hexdigest()
        self.assertEqual(relay.password(b"key", "acme"), expected)
        self.assertNotEqual(relay.password(b"key", "globex"), expected)


if __name__ == "__main__":
    unittest.main()
