import os
import time
import unittest
from unittest import mock

from pgs_offsite import copies as copies_module
from pgs_offsite import run as run_module
from pgs_offsite.compression import Decompressed
from pgs_offsite.run import Runner
from pgs_offsite.volume import Unfit
from tests.offsite_support import DAY, OffsiteTest


class WalTest(OffsiteTest):
    def test_segments_are_copied_once_and_in_their_order(self):
        volume, copies = self.volume(), self.copies()
        for number in (1, 2):
            volume.wal(number)
        volume.wal(3, place="streaming")
        self.copy_all(copies)
        volume.wal(4)
        self.copy_all(copies)
        keys = [f"wals/0000000100000000/00000001000000000000000{number}.lz4" for number in (1, 2, 3, 4)]
        self.assertEqual(self.names(), keys)
        self.assertEqual(self.bucket.written_over, [])
        self.assertEqual(copies.waiting, 0)

    def test_what_is_there_is_known_after_a_restart(self):
        volume = self.volume()
        volume.wal(1)
        self.copy_all(self.copies())
        volume.wal(2)
        self.copy_all(self.copies())
        self.assertEqual(len(self.names()), 2)
        self.assertEqual(self.bucket.written_over, [])

    def test_it_begins_with_the_newest_base_backup(self):
        volume = self.volume()
        for number in range(1, 6):
            volume.wal(number)
        volume.base("20260102T000000", 4)
        self.copy_all(self.copies())
        segments = [name for name in self.names() if name.startswith("wals/")]
        self.assertEqual([name[-7:-4] for name in segments], ["004", "005"])

    def test_a_segment_that_does_not_show_while_it_is_renamed_is_waited_for(self):
        volume, copies = self.volume(), self.copies()
        volume.wal(1)
        self.copy_all(copies)
        volume.wal(3, place="streaming")
        copies.copy_wal(self.bucket)
        self.assertEqual(len(self.names()), 1)
        volume.wal(2)
        self.copy_all(copies)
        self.assertEqual([name[-7:-4] for name in self.names()], ["001", "002", "003"])

    def test_a_gap_that_stays_holds_up_nothing(self):
        volume, copies = self.volume(), self.copies()
        for number in (1, 3, 4):
            volume.wal(number)
        self.copy_all(copies)
        self.assertEqual([name[-7:-4] for name in self.names()], ["001", "003", "004"])

    def test_a_partial_segment_is_copied_every_minute_when_it_changed_and_goes_when_it_is_whole(self):
        volume, copies = self.volume(), self.copies()
        volume.wal(1)
        partial = volume.wal(2, place="partial")
        self.copy_all(copies)
        key = "wals/0000000100000000/000000010000000000000002.partial.lz4"
        self.assertIn(key, self.names())
        self.assertGreater(copies.wal_complete, 0)
        copies.wal_complete = 0
        os.utime(partial, (1, 1))
        copies.copy_wal(self.bucket)
        self.assertEqual((self.bucket.written_over, copies.wal_complete), ([], 0))
        with mock.patch.object(copies_module, "PARTIAL_INTERVAL", 0):
            copies.copy_wal(self.bucket)
        self.assertEqual(len(self.bucket.written_over), 1)
        partial.rename(partial.with_suffix(""))
        self.copy_all(self.copies())
        self.assertNotIn(key, self.names())
        self.assertIn(key.replace(".partial", ""), self.names())

    def test_a_timeline_has_the_time_when_it_began(self):
        volume = self.volume()
        history = volume.home / "streaming" / "00000002.history"
        history.write_text("1\t0/3000000\tno recovery target\n")
        os.utime(history, (123, 123))
        self.copy_all(self.copies())
        self.assertEqual(self.names(), ["timelines/00000002", "wals/00000002.history.lz4"])
        [key] = self.bucket.keys("tenant-acme/")[:1]
        self.assertEqual(self.bucket.objects[key][0], b"123.0")

    def test_a_timeline_that_begins_before_the_archive_is_copied_from_its_begin(self):
        volume = self.volume()
        volume.wal(9)
        volume.base("20260101T000000", 9)
        self.copy_all(self.copies())
        volume.wal(4, timeline=2)
        self.copy_all(self.copies())
        self.assertIn("wals/0000000200000000/000000020000000000000004.lz4", self.names())

    def test_backups_of_other_data_have_another_archive(self):
        volume = self.volume()
        volume.wal(1)
        self.copy_all(self.copies())
        volume.home.rename(volume.root / "tenant-acme-7")
        self.folder.joinpath("backups/acme").rename(self.folder / "backups/old")
        volume = self.volume()
        volume.wal(1)
        copies = self.copies()
        self.copy_all(copies)
        self.assertEqual(self.bucket.written_over, [])
        self.assertEqual(len(self.bucket.folders("tenant-acme/")), 2)

    def test_a_bucket_that_is_away_gets_all_when_it_is_back(self):
        volume, copies = self.volume(), self.copies()
        volume.wal(1)
        self.bucket.away = True
        with self.assertRaises(ConnectionError):
            copies.copy_wal(self.bucket)
        self.assertEqual(copies.waiting, 1)
        self.bucket.away = False
        self.copy_all(copies)
        self.assertEqual((len(self.names()), copies.waiting), (1, 0))

    def test_links_pipes_and_odd_files_are_not_copied(self):
        volume, copies = self.volume(), self.copies()
        secret = self.folder / "secret"
        secret.write_text("of another tenant")
        wals = volume.home / "wals" / "0000000100000000"
        wals.mkdir()
        (wals / "000000010000000000000001").symlink_to(secret)
        with self.assertRaises(OSError):
            copies.copy_wal(self.bucket)
        (wals / "000000010000000000000001").unlink()
        os.mkfifo(wals / "000000010000000000000001")
        with self.assertRaises(Unfit):
            copies.copy_wal(self.bucket)
        (wals / "000000010000000000000001").unlink()
        with open(wals / "000000010000000000000001", "wb") as file:
            file.truncate(1 << 40)
        with self.assertRaisesRegex(Unfit, "more than 16777216"):
            copies.copy_wal(self.bucket)
        wals.rename(volume.home / "elsewhere")
        wals.symlink_to(self.folder)
        with self.assertRaises(OSError):
            copies.copy_wal(self.bucket)
        self.assertEqual(self.names(), [])

    def test_the_tenants_folder_itself_is_no_way_out(self):
        other, volume = self.volume("globex"), self.volume()
        other.wal(1)
        volume.home.rename(volume.root / "away")
        volume.home.symlink_to(other.home)
        with self.assertRaises(OSError):
            self.copies().copy_wal(self.bucket)
        self.assertEqual(self.names(), [])


class BaseTest(OffsiteTest):
    def test_the_record_comes_last_and_names_say_what_it_needs(self):
        volume, copies = self.volume(), self.copies()
        volume.base("20260101T000000", 3)
        self.copy_all(copies)
        key = "base/20260101T000000/000000010000000000000003.3003.tar.lz4"
        self.assertEqual(self.names(), [key, "base/20260101T000000/backup.info"])
        self.assertGreater(copies.newest_base, 0)

    def test_an_incremental_one_brings_what_it_is_made_on(self):
        volume, copies = self.volume(), self.copies()
        volume.base("20260101T000000", 1)
        volume.base("20260102T000000", 2, parent="20260101T000000")
        self.copy_all(copies)
        objects = [name for name in self.names() if name.endswith(".tar.lz4")]
        self.assertEqual(
            objects,
            [
                "base/20260101T000000/000000010000000000000001.3003.tar.lz4",
                "base/20260102T000000/000000010000000000000002.3003.20260101T000000.tar.lz4",
            ],
        )

    def test_one_that_is_not_complete_or_has_an_odd_record_is_not_copied(self):
        volume, copies = self.volume(), self.copies()
        volume.base("20260101T000000", 1, status="STARTED")
        self.copy_all(copies)
        volume.base("20260102T000000", 1)
        record = volume.home / "meta/20260102T000000-backup.info"
        record.write_text(record.read_text().replace("begin_wal=", "begin_wal=../../"))
        with self.assertRaisesRegex(Unfit, "which WAL"):
            self.copy_all(copies)
        self.assertEqual(self.names(), [])

    def test_a_large_one_is_copied_in_parts_and_others_have_their_turn_between(self):
        volume, copies = self.volume(), self.copies()
        volume.base("20260101T000000", 1, files={"data/one": os.urandom(20 << 20)})
        copies.copy_wal(self.bucket)
        steps = copies.copy_bases(self.bucket)
        next(steps)
        self.assertEqual(self.bucket.parts, 1)
        next(steps)
        self.assertEqual(self.bucket.parts, 2)
        steps.close()
        self.assertEqual((self.bucket.aborted, self.names()), (1, []))
        self.copy_bases(copies)
        self.assertEqual(self.bucket.parts, 2 + 3)

    def test_holes_do_not_last_for_ever(self):
        volume, copies = self.volume(), self.copies()
        folder = volume.base("20260101T000000", 1)
        with open(folder / "data/endless", "wb") as file:
            file.truncate(1 << 43)
        with self.assertRaisesRegex(Unfit, "more bytes than the disk"):
            self.copy_all(copies)
        self.assertEqual(self.names(), [])

    def test_zeros_are_a_step_each_turn(self):
        volume, copies = self.volume(), self.copies()
        folder = volume.base("20260101T000000", 1)
        with open(folder / "data/zeros", "wb") as file:
            file.truncate(64 << 20)
        copies.copy_wal(self.bucket)
        with mock.patch.object(copies_module, "TURN_SECONDS", 0):
            steps = sum(1 for _ in copies.copy_bases(self.bucket))
        self.assertGreater(steps, 60)

    def test_one_that_vanishes_while_it_is_read_is_given_up(self):
        volume, copies = self.volume(), self.copies()
        folder = volume.base("20260101T000000", 1, files={"data/one": os.urandom(20 << 20)})
        copies.copy_wal(self.bucket)
        steps = copies.copy_bases(self.bucket)
        next(steps)
        os.truncate(folder / "data/one", 0)
        with self.assertRaisesRegex(Unfit, "became shorter"):
            list(steps)
        self.assertEqual((self.bucket.aborted, self.names()), (1, []))


class RetentionTest(OffsiteTest):
    def setUp(self):
        super().setUp()
        self.backups = self.volume()

    def day(self, number, begin, **more):
        """A base backup a day, and the WAL of it."""
        self.backups.wal(begin)
        self.backups.wal(begin + 1)
        backup = f"202601{number:02}T000000"
        self.backups.base(backup, begin, **more)
        copies = self.copies(days=3)
        self.copy_all(copies)
        self.bucket.now += DAY
        return copies

    def kept(self):
        bases = sorted({int(name.split("/")[1][6:8]) for name in self.names() if name.startswith("base/")})
        return bases, [int(name[-6:-4], 16) for name in self.names() if name.startswith("wals/")]

    def test_what_a_time_within_it_needs_stays_and_the_rest_goes(self):
        for number in range(1, 7):
            self.day(number, number * 2)
        # The third day's is what the first second within three days before the last one needs.
        self.assertEqual(self.kept(), ([3, 4, 5, 6], [6, 7, 8, 9, 10, 11, 12, 13]))

    def test_the_last_one_stays_however_old(self):
        self.day(1, 2)
        self.bucket.now += 100 * DAY
        self.copy_all(self.copies(days=3))
        self.assertEqual(self.kept(), ([1], [2, 3]))

    def test_what_an_incremental_one_is_made_on_stays(self):
        self.day(1, 2)
        for number in range(2, 7):
            self.day(number, number * 2, parent="20260101T000000")
        bases, wal = self.kept()
        self.assertEqual(bases, [1, 3, 4, 5, 6])
        self.assertEqual(wal[0], 2)

    def test_the_clock_of_this_host_counts_for_nothing(self):
        for number in range(1, 4):
            self.day(number, number * 2)
        with mock.patch.object(time, "time", return_value=9e9):
            self.day(4, 8)
        self.assertEqual(self.kept()[0], [1, 2, 3, 4])

    def test_forged_names_and_records_delete_nothing_of_before(self):
        for number in range(1, 4):
            self.day(number, number * 2)
        before = self.names()
        # From now on it is an attacker who writes there.
        for year in range(2100, 2110):
            self.backups.base(f"{year}0101T000000", 0xFF, end_time=f"{year}-01-01 00:00:00+00:00")
            self.copy_all(self.copies(days=3))
            self.bucket.now += 60
        self.backups.wal(0xFF)
        self.backups.wal(0xFE)
        self.copy_all(self.copies(days=3))
        self.assertEqual([name for name in before if name not in self.names()], [])
        self.assertEqual(self.bucket.written_over, [])


class RunnerTest(OffsiteTest):
    def setUp(self):
        super().setUp()
        status = mock.patch.object(run_module, "STATUS_FILE", str(self.folder / "status.json"))
        status.start()
        self.addCleanup(status.stop)
        log = mock.patch.object(run_module, "log")
        self.log = log.start()
        self.addCleanup(log.stop)

    def runner(self, *tenants):
        runner = Runner(
            [(tenant, 7) for tenant in tenants], str(self.folder / "backups"), str(self.folder / "own")
        )
        runner.bucket = self.bucket
        return runner

    def test_one_tenants_odd_files_cost_the_others_nothing(self):
        import json

        odd, good = self.volume("acme"), self.volume("globex")
        os.mkfifo(odd.home / "streaming" / "000000010000000000000001")
        good.wal(1)
        good.base("20260101T000000", 1)
        runner = self.runner("acme", "globex")
        for _ in range(5):
            runner.copy_wal_once()
        under_way = {}
        while runner.copy_bases_once(under_way):
            pass
        runner._bases_due["globex"] = 0
        while runner.copy_bases_once(under_way):
            pass
        self.assertEqual(len(self.names("globex")), 3)
        runner.write_status()
        status = json.loads((self.folder / "status.json").read_text())
        acme, globex = status["tenants"]
        self.assertIsNotNone(acme["problem"])
        self.assertIsNone(globex["problem"])
        self.assertGreater(globex["base"], 0)

    def test_an_endless_queue_of_one_leaves_a_turn_to_each_other(self):
        busy, idle = self.volume("acme"), self.volume("globex")
        for number in range(1, 100):
            busy.wal(number)
        idle.wal(1)
        runner = self.runner("acme", "globex")
        runner.copy_wal_once()
        self.assertEqual(len(self.names("acme")), copies_module.TURN_SEGMENTS)
        runner.copy_wal_once()
        self.assertEqual(len(self.names("globex")), 1)

    def test_a_failure_is_logged_once_and_its_end_too(self):
        self.volume("acme").wal(1)
        runner = self.runner("acme")
        self.bucket.away = True
        for _ in range(3):
            runner._due["acme"] = 0
            runner.copy_wal_once()
        self.bucket.away = False
        runner._due["acme"] = 0
        runner.copy_wal_once()
        said = [call.args[0] for call in self.log.call_args_list]
        self.assertEqual(
            said, ["acme: WAL: no connection; tried again until it succeeds", "acme: WAL: goes on"]
        )


class CompressionTest(OffsiteTest):
    def test_a_segment_in_the_bucket_is_the_one_on_the_disk(self):
        volume = self.volume()
        path = volume.wal(1, size=1 << 20)
        self.copy_all(self.copies())
        stream = self.bucket.open(self.bucket.keys("tenant-acme/")[0])
        data, found = Decompressed(stream), b""
        while chunk := data.read(1000):
            self.assertLessEqual(len(chunk), 1000)
            found += chunk
        self.assertEqual(found, path.read_bytes())


if __name__ == "__main__":
    unittest.main()
