import asyncio
import contextlib
import os
import shutil
import struct
import tempfile
import time
import unittest
from unittest import mock

import cancel_requests as cancel

PACKET = struct.pack("!iii", 16, cancel.CANCEL, 42) + b"key!"
LONG = struct.pack("!iii", 12 + 32, cancel.CANCEL, 42) + b"k" * 32


class Clock:
    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


class BudgetTest(unittest.TestCase):
    def test_grows_back_with_time_up_to_its_most(self):
        clock = Clock()
        budget = cancel.Budget(2, 4, clock)
        self.assertEqual([budget.take(1) for _ in range(5)], [True] * 4 + [False])
        clock.time += 0.5
        self.assertEqual([budget.take(1), budget.take(1)], [True, False])
        clock.time += 1000
        self.assertEqual([budget.take(1) for _ in range(5)], [True] * 4 + [False])

    def test_what_is_more_than_it_holds_is_had_when_it_is_full_and_owed(self):
        clock = Clock()
        budget = cancel.Budget(10, 20, clock)
        self.assertTrue(budget.take(50))
        clock.time += 4.9
        self.assertFalse(budget.take(50))
        clock.time += 0.2
        self.assertTrue(budget.take(50))


class LimitsTest(unittest.TestCase):
    def allowed(self, limits, address, hosts):
        count = 0
        while limits.allow(address, hosts):
            count += 1
        return count

    def test_all_together_have_a_limit_that_grows_back(self):
        clock = Clock()
        limits = cancel.Limits(clock, cores=2)
        addresses = [b"192.0.2.%d" % number for number in range(1, 9)]
        self.assertEqual(sum(self.allowed(limits, address, 200) for address in addresses), 3)
        clock.time += 10
        self.assertEqual(self.allowed(limits, b"192.0.2.9", 200), 1)

    def test_one_address_leaves_half_to_the_others(self):
        clock = Clock()
        limits = cancel.Limits(clock, cores=2)
        self.allowed(limits, b"192.0.2.1", 1)
        self.assertGreaterEqual(self.allowed(limits, b"192.0.2.2", 1), 240)
        for _ in range(100):
            clock.time += 1
            self.allowed(limits, b"192.0.2.1", 1)
        self.assertGreaterEqual(self.allowed(limits, b"192.0.2.2", 1), 240)

    def test_more_servers_than_an_address_has_a_share_of_are_asked_all_the_same(self):
        limits = cancel.Limits(Clock())
        self.assertTrue(limits.allow(b"192.0.2.1", 3000))
        self.assertFalse(limits.allow(b"192.0.2.2", 3000))

    def test_addresses_take_no_memory_without_end(self):
        limits = cancel.Limits(Clock())
        for number in range(30_000):
            limits.allow(b"%d" % number, 1)
        self.assertLessEqual(len(limits.addresses), cancel.Limits.ADDRESSES)


class ReadPacketTest(unittest.IsolatedAsyncioTestCase):
    async def read(self, data):
        reader = asyncio.StreamReader(limit=1024)
        reader.feed_data(data)
        reader.feed_eof()
        return await cancel.read_packet(reader)

    async def test_the_address_is_the_one_that_the_proxy_says(self):
        line = b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 5432\r\n"
        self.assertEqual(await self.read(line + PACKET), (b"203.0.113.7", cancel.CANCEL, PACKET))

    async def test_the_key_has_the_length_that_the_packet_says(self):
        self.assertEqual((await self.read(b"PROXY UNKNOWN\r\n" + LONG + b"more"))[2], LONG)

    async def test_a_packet_that_is_cut_off_is_none(self):
        with self.assertRaises(asyncio.IncompleteReadError):
            await self.read(b"PROXY UNKNOWN\r\n" + LONG[:-1])

    async def test_of_an_absurd_length_nothing_more_is_read(self):
        for length in (-1, 0, 12, 15, 269, 1 << 30):
            packet = struct.pack("!ii", length, cancel.CANCEL)
            self.assertEqual((await self.read(b"PROXY UNKNOWN\r\n" + packet + b"x" * 300))[2], packet)

    async def test_a_line_without_end_is_refused(self):
        with self.assertRaises(asyncio.LimitOverrunError):
            await self.read(b"x" * 5000 + b"\r\n")


class RoutesTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(path + ".new", path)
        # The kernel's clock for files ticks a hundred times a second, or more seldom.
        os.utime(self.folder, ns=(0, os.stat(self.folder).st_mtime_ns + 1))

    def test_addresses_of_routes_that_are_open_and_of_no_other_file(self):
        self.write(
            "route-acme.yml",
            "rule: HostSNI(`acme.example.com`) && !ClientIP(`10.0.0.0/8`)\n"
            "rule: HostSNI(`*`) && ClientIP(`fd00::1`)\n",
        )
        self.write("route-globex.yml", "# globex is not reachable\n")
        self.write("certificate.yml", "ClientIP(`fd00::2`)")
        self.write("cancel.yml", "rule: HostSNI(`*`)")
        self.assertEqual(cancel.Routes(self.folder).current(), ["fd00::1"])

    def test_one_that_is_added_or_removed_is_known_at_once(self):
        self.write("route-acme.yml", "ClientIP(`fd00::1`)")
        routes = cancel.Routes(self.folder)
        routes.current()
        self.write("route-beta.yml", "ClientIP(`fd00::2`)")
        self.assertEqual(routes.current(), ["fd00::1", "fd00::2"])
        self.write("route-acme.yml", "# acme is not reachable")
        self.assertEqual(routes.current(), ["fd00::2"])


class FixedRoutes:
    def __init__(self, hosts):
        self.hosts = hosts

    def current(self):
        return self.hosts


class ServiceTest(unittest.IsolatedAsyncioTestCase):
    """With a stand-in for Traefik and the servers behind it."""

    async def asyncSetUp(self):
        self.names, self.received, self.refuses, self.hanging = [], [], False, None
        proxy = await asyncio.start_server(self.proxy, "127.0.0.1", 0)
        self.addAsyncCleanup(self.close, proxy)
        port = proxy.sockets[0].getsockname()[1]
        hosts = FixedRoutes(["fd00::1", "fd00::2"])
        self.service = cancel.Service("127.0.0.1", hosts, cancel.Limits(Clock()), port)
        front = await asyncio.start_server(self.service.client, "127.0.0.1", 0, limit=1024)
        self.addAsyncCleanup(self.close, front)
        self.port = front.sockets[0].getsockname()[1]

    async def close(self, server):
        server.close()

    async def proxy(self, reader, writer):
        if not self.refuses:
            name = (await reader.readline()).split()[2].decode()
            self.names.append(name)
            self.received.append(await reader.read(300))
            if name == self.hanging:
                # Still waiting when the loop ends. A cancelled handler would fill the log with its trace (Python 3.11).
                with contextlib.suppress(asyncio.CancelledError):
                    await reader.read()
        writer.close()

    async def send(self, packet):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 5432\r\n" + packet)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer

    async def test_a_request_reaches_each_server_by_its_name(self):
        self.assertEqual(await self.send(LONG), b"")
        self.assertEqual(sorted(self.names), ["fd00::1", "fd00::2"])
        self.assertEqual(self.received, [LONG, LONG])

    async def test_a_server_that_refuses_costs_the_others_and_the_client_nothing(self):
        self.refuses = True
        self.assertEqual(await self.send(PACKET), b"")
        self.assertEqual(self.received, [])

    async def test_a_server_that_hangs_holds_up_one_client_for_a_short_time_and_then_none(self):
        self.hanging = "fd00::2"
        with mock.patch.multiple(cancel, PATIENCE=0.6, WAIT=0.3):
            seconds = [await self.timed(PACKET)]
            await asyncio.sleep(0.5)
            seconds.append(await self.timed(PACKET))
            self.hanging = None
            await asyncio.sleep(0.7)
            await self.send(PACKET)
            await asyncio.sleep(0.1)
            self.hanging = "fd00::2"
            seconds.append(await self.timed(PACKET))
        self.assertEqual([second < 0.25 for second in seconds], [False, True, False])
        self.assertEqual(len(self.received), 8)

    async def timed(self, packet):
        started = time.monotonic()
        await self.send(packet)
        return time.monotonic() - started

    async def test_past_the_limits_a_request_waits_for_its_turn(self):
        self.service.limits.all = cancel.Budget(20, 20)
        self.service.limits.all.left = 0
        self.assertGreater(await self.timed(PACKET), 0.1)
        self.assertEqual(self.received, [PACKET, PACKET])

    async def test_one_that_has_no_turn_in_time_goes_nowhere(self):
        self.service.limits.all = cancel.Budget(0, 1)
        self.service.limits.all.left = 0
        with mock.patch.object(cancel, "PATIENCE", 0.5):
            self.assertEqual(await self.send(PACKET), b"")
        self.assertEqual(self.received, [])

    async def test_too_many_clients_at_a_time_are_closed_at_once(self):
        with mock.patch.object(cancel, "CLIENTS", 1):
            _, idle = await asyncio.open_connection("127.0.0.1", self.port)
            await asyncio.sleep(0.1)
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(await self.send(PACKET), b"")
            self.assertEqual(self.received, [])
            idle.close()
            await asyncio.sleep(0.1)
            await self.send(PACKET)
        self.assertEqual(self.received, [PACKET, PACKET])

    async def test_a_client_without_tls_is_told_what_to_do(self):
        startup = struct.pack("!ii", 16, 3 << 16) + b"user\0me\0"
        for packet in (startup, struct.pack("!ii", 8, cancel.GSSENC)):
            answer = await self.send(packet)
            self.assertEqual(answer[:1], b"E")
            self.assertEqual(struct.unpack("!i", answer[1:5])[0], len(answer) - 1)
            self.assertIn(b"TLS is required", answer)
        self.assertEqual(self.received, [])

    async def test_noise_gets_nothing_through(self):
        for noise in (
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            struct.pack("!ii", 1 << 30, cancel.CANCEL) + b"x" * 900,
        ):
            await self.send(noise + b"\0" * 8)
        self.assertEqual(self.received, [])


if __name__ == "__main__":
    unittest.main()
