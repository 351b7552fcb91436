import os
import shutil
import unittest
from datetime import datetime
from pathlib import Path
from unittest import mock

from pgs_offsite.compression import compress
from pgs_offsite.fetch import NotThere, Unreadable, fetch
from tests.offsite_support import OffsiteTest


def at(text):
    return datetime.fromisoformat(text)


class FetchTest(OffsiteTest):
    def setUp(self):
        super().setUp()
        self.backups = self.volume()
        self.to = self.folder / "scratch"
        self.to.mkdir()
        disk = mock.patch.object(shutil, "disk_usage", return_value=mock.Mock(free=1 << 40))
        self.disk = disk.start()
        self.addCleanup(disk.stop)

    def fetch(self, when=None):
        return fetch(self.bucket, "acme", when and at(when), str(self.to))

    def fetched(self):
        home = self.to / "tenant-acme"
        return sorted(str(path.relative_to(home)) for path in Path(home).rglob("*") if not path.is_dir())

    def test_what_comes_back_is_laid_out_as_it_was(self):
        for number in (1, 2, 3):
            self.backups.wal(number)
        self.backups.wal(4, place="partial")
        base = self.backups.base("20260101T000000", 2)
        self.copy_all(self.copies())
        self.assertEqual(self.fetch(), "20260101T000000")
        wal = "wals/0000000100000000/00000001000000000000000"
        self.assertEqual(
            self.fetched(),
            [
                "base/20260101T000000/data/PG_VERSION",
                "base/20260101T000000/data/base/1/2",
                "meta/20260101T000000-backup.info",
                "streaming/000000010000000000000004.partial",
                f"{wal}2",
                f"{wal}3",
                "wals/tenant-acme-xlog.db",
            ],
        )
        home = self.to / "tenant-acme"
        for name in ("base/1/2", "PG_VERSION"):
            copy = home / "base/20260101T000000/data" / name
            self.assertEqual(copy.read_bytes(), (base / "data" / name).read_bytes())
        listed = (home / "wals/tenant-acme-xlog.db").read_text().splitlines()
        self.assertEqual([line.split("\t")[0][-1] for line in listed], ["2", "3"])

    def test_a_time_has_the_base_backup_of_before_it(self):
        for number in (1, 2, 3):
            self.backups.wal(number)
        for day, begin in ((1, 1), (2, 2)):
            self.backups.base(f"2026010{day}T000000", begin)
            self.copy_all(self.copies())
        self.assertEqual(self.fetch("2026-01-01T12:00:00Z"), "20260101T000000")
        self.assertEqual(self.fetch("2026-01-02T00:00:58+00:00"), "20260101T000000")
        self.assertEqual(self.fetch("2026-01-02T00:01:00+00:00"), "20260102T000000")
        self.assertEqual(self.fetch("2026-01-02T02:00:59+02:00"), "20260102T000000")
        with self.assertRaisesRegex(NotThere, "no base backup of acme from before 2025"):
            self.fetch("2025-12-31T00:00:00Z")

    def test_an_incremental_one_comes_with_what_it_is_made_on(self):
        self.backups.wal(1)
        self.backups.wal(2)
        self.backups.base("20260101T000000", 1)
        self.backups.base("20260102T000000", 2, parent="20260101T000000")
        self.copy_all(self.copies())
        self.assertEqual(self.fetch(), "20260102T000000")
        self.assertEqual(
            sorted(os.listdir(self.to / "tenant-acme/base")), ["20260101T000000", "20260102T000000"]
        )

    def test_a_tablespace_is_linked_as_it_was(self):
        self.backups.wal(1)
        files = {"data/PG_VERSION": b"18", "data/pg_tblspc/.keep": b"", "16384/PG_18/1": b"row"}
        base = self.backups.base("20260101T000000", 1, files=files)
        os.symlink("/var/lib/barman/elsewhere", base / "data/pg_tblspc/16384")
        self.copy_all(self.copies())
        self.fetch()
        home = self.to / "tenant-acme/base/20260101T000000"
        self.assertEqual(os.readlink(home / "data/pg_tblspc/16384"), str(home / "16384"))
        self.assertEqual((home / "data/pg_tblspc/16384/PG_18/1").read_bytes(), b"row")

    def test_times_on_either_side_of_a_restore_in_place_have_their_own_timeline(self):
        for number in (1, 2, 3):
            self.backups.wal(number)
        self.backups.base("20260101T000000", 1)
        self.copy_all(self.copies())
        # On the timeline that was left.
        self.backups.base("20260102T000000", 3)
        self.copy_all(self.copies())
        history = self.backups.home / "wals/00000002.history"
        history.write_text("1\t0/2000100\tbefore 2026-01-01\n")
        began = at("2026-01-03T00:00:00+00:00").timestamp()
        os.utime(history, (began, began))
        self.backups.wal(2, timeline=2)
        self.copy_all(self.copies())
        self.assertEqual(self.fetch("2026-01-02T12:00:00Z"), "20260102T000000")
        self.assertEqual(self.fetch(), "20260101T000000")
        self.assertIn("wals/0000000200000000/000000020000000000000002", self.fetched())
        copy = self.to / "tenant-acme/wals/00000002.history"
        self.assertEqual(copy.read_text(), history.read_text())
        self.assertEqual(copy.stat().st_mtime, began)

    def test_the_newest_archive_counts_and_an_older_one_where_it_has_nothing(self):
        self.backups.wal(1)
        self.backups.base("20260101T000000", 1)
        self.copy_all(self.copies())
        older = dict(self.bucket.objects)
        self.bucket.objects = {
            key.replace(key.split("/")[1], "29990101T000000Z-00000000"): value for key, value in older.items()
        }
        self.bucket.objects.update(older)
        for key in self.bucket.keys("tenant-acme/29990101"):
            if key.endswith("backup.info"):
                data, modified = self.bucket.objects[key]
                self.bucket.objects[key] = (data.replace(b"2026-01-01", b"2026-05-01"), modified)
        self.fetch("2026-02-01T00:00:00Z")
        with_older = (self.to / "tenant-acme/meta/20260101T000000-backup.info").read_text()
        self.fetch()
        with_newest = (self.to / "tenant-acme/meta/20260101T000000-backup.info").read_text()
        self.assertIn("2026-01-01", with_older)
        self.assertIn("2026-05-01", with_newest)

    def copied(self):
        for number in (1, 2):
            self.backups.wal(number)
        self.backups.base("20260101T000000", 1)
        self.copy_all(self.copies())
        return {key.split("/", 2)[2]: key for key in self.bucket.keys("tenant-acme/")}

    def test_what_cannot_be_read_is_named(self):
        keys = self.copied()
        for name in keys:
            with self.subTest(name):
                whole = self.bucket.objects[keys[name]]
                self.bucket.objects[keys[name]] = (b"no such thing", whole[1])
                pattern = rf"^tenant-acme/\S+/{name} at s3://bucket/path cannot be read: \S"
                with self.assertRaisesRegex(Unreadable, pattern):
                    self.fetch()
                self.bucket.objects[keys[name]] = whole
        self.fetch()

    def test_what_is_cut_off_is_named(self):
        keys = self.copied()
        for name in keys:
            if not name.endswith(".lz4"):
                continue
            with self.subTest(name):
                data, modified = self.bucket.objects[keys[name]]
                self.bucket.objects[keys[name]] = (data[: len(data) // 2], modified)
                with self.assertRaisesRegex(Unreadable, name):
                    self.fetch()
                self.bucket.objects[keys[name]] = (data, modified)

    def test_a_base_backup_with_more_than_it_says_is_refused(self):
        keys = self.copied()
        [key] = [key for name, key in keys.items() if name.endswith(".tar.lz4")]
        self.bucket.objects[key.replace(".3003.", ".100.")] = self.bucket.objects.pop(key)
        with self.assertRaisesRegex(Unreadable, "more than the 100 bytes"):
            self.fetch()

    def test_a_segment_that_grows_is_refused(self):
        keys = self.copied()
        [key] = [key for name, key in keys.items() if name.endswith("02.lz4")]
        self.bucket.objects[key] = (compress(b"\0" * (17 << 20)), 0)
        with self.assertRaisesRegex(Unreadable, "more than 16777216 bytes"):
            self.fetch()

    def test_without_room_nothing_is_fetched(self):
        self.copied()
        self.disk.return_value.free = 100 << 20
        with self.assertRaisesRegex(
            NotThere, r"needs \d+ MiB on the disk of Docker's volumes, and 100 MiB are free"
        ):
            self.fetch()
        self.assertEqual(os.listdir(self.to), [])

    def test_without_the_first_segment_it_says_which_is_missing(self):
        keys = self.copied()
        del self.bucket.objects[keys["wals/0000000100000000/000000010000000000000001.lz4"]]
        with self.assertRaisesRegex(NotThere, "000000010000000000000001 is missing"):
            self.fetch()

    def test_one_that_is_still_being_copied_does_not_count(self):
        keys = self.copied()
        del self.bucket.objects[keys["base/20260101T000000/backup.info"]]
        with self.assertRaises(NotThere):
            self.fetch()


if __name__ == "__main__":
    unittest.main()
