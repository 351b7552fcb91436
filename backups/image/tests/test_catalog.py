import calendar
import os
import tempfile
import unittest

from pgs_backup import catalog, layout

DAY = 86400
NOW = calendar.timegm((2026, 11, 26, 12, 0, 0))


class Catalog(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folders = layout.Folders("tenant-acme", folder.name)
        os.makedirs(self.folders.meta)

    def record(self, backup_id, **fields):
        fields = {
            "status": "DONE",
            "end_time": "2026-11-23 02:30:09.5+00:00",
            "version": "180006",
            "size": str(1 << 30),
            "summarize_wal": "on",
            "parent_backup_id": "None",
            **fields,
        }
        with open(os.path.join(self.folders.meta, f"{backup_id}-backup.info"), "w") as file:
            file.write("".join(f"{name}={value}\n" for name, value in fields.items()))

    def all(self):
        return catalog.backups(self.folders)

    def test_a_record_is_read(self):
        self.record("20261123T023000")
        self.record("20261124T023000", parent_backup_id="20261123T023000", status="WAITING_FOR_WALS")
        self.assertEqual(
            [backup.as_json() for backup in self.all()],
            [
                {
                    "id": "20261123T023000",
                    "begin": calendar.timegm((2026, 11, 23, 2, 30, 0)),
                    "end": calendar.timegm((2026, 11, 23, 2, 30, 9)),
                    "version": 18,
                    "size": 1 << 30,
                    "usable": True,
                    "parent": None,
                },
                {
                    "id": "20261124T023000",
                    "begin": calendar.timegm((2026, 11, 24, 2, 30, 0)),
                    "end": calendar.timegm((2026, 11, 23, 2, 30, 9)),
                    "version": 18,
                    "size": 1 << 30,
                    "usable": True,
                    "parent": "20261123T023000",
                },
            ],
        )

    def test_an_odd_record_gives_numbers_all_the_same(self):
        self.record(
            "20261199T990000", version="x" * 99, size="-1", end_time="never", parent_backup_id="../../x"
        )
        [backup] = self.all()
        self.assertEqual(
            (backup.begin, backup.end, backup.version, backup.size, backup.parent), (0, 0, 0, 0, None)
        )

    def test_other_names_links_and_long_files_are_no_records(self):
        os.symlink("/etc/passwd", os.path.join(self.folders.meta, "20261123T023000-backup.info"))
        for name in ("x-backup.info", "20261123T023001-backup.info.new"):
            open(os.path.join(self.folders.meta, name), "w").close()
        with open(os.path.join(self.folders.meta, "20261123T023002-backup.info"), "w") as file:
            file.truncate(2 << 20)
        self.assertEqual(self.all(), [])

    def test_the_newest_is_usable(self):
        self.assertIsNone(catalog.newest([]))
        self.record("20261123T023000")
        self.record("20261124T023000", parent_backup_id="20261123T023000")
        self.record("20261125T023000", status="FAILED")
        self.assertEqual(catalog.newest(self.all()).id, "20261124T023000")
        self.assertEqual(catalog.newest(self.all(), full=True).id, "20261123T023000")

    def test_the_daily_one_is_due_today_from_its_time_on_and_before_that_since_yesterday(self):
        self.assertEqual(catalog.last_due("11:59", NOW), NOW - 60)
        self.assertEqual(catalog.last_due("12:00", NOW), NOW)
        self.assertEqual(catalog.last_due("12:01", NOW), NOW + 60 - DAY)

    def must_be_full(self, retention=30):
        return catalog.has_to_be_full(self.all(), retention, NOW)

    def test_the_first_one_is_full_and_the_next_are_incremental(self):
        self.assertTrue(self.must_be_full())
        self.record("20261123T023000")
        self.assertFalse(self.must_be_full())

    def test_a_server_that_notes_no_changed_blocks_gets_full_ones(self):
        self.record("20261123T023000", summarize_wal="None")
        self.assertTrue(self.must_be_full())

    def test_a_full_one_is_made_every_week_and_twice_in_a_shorter_retention(self):
        self.record("20261119T023000")
        self.assertTrue(self.must_be_full())
        os.remove(os.path.join(self.folders.meta, "20261119T023000-backup.info"))
        self.record("20261123T023000")
        self.assertFalse(self.must_be_full(retention=7))
        self.assertTrue(self.must_be_full(retention=6))

    def test_a_small_one_or_a_large_difference_is_followed_by_a_full_one(self):
        self.record("20261123T023000", size=str((256 << 20) - 1))
        self.assertTrue(self.must_be_full())
        self.record("20261123T023000")
        self.record("20261124T023000", parent_backup_id="20261123T023000", size=str((1 << 29) + 1))
        self.assertTrue(self.must_be_full())
        self.record("20261124T023000", parent_backup_id="20261123T023000", size=str(1 << 29))
        self.assertFalse(self.must_be_full())
