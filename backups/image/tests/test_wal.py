import os
import tempfile
import unittest
from unittest import mock

from pgs_backup import barman_command, layout, wal
from pgs_backup.notes import Notes

FIRST = "000000010000000000000005"
LATER = "000000010000000000000009"
HISTORY = "1\t0/7000028\tno recovery target specified\n"


class WalTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = folder.name
        for target, name, value in (
            (layout, "HOME", self.home),
            (layout, "SCRATCH", self.home),
            (wal, "file_all", mock.Mock()),
            (barman_command, "prepare", mock.Mock()),
        ):
            patch = mock.patch.object(target, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        self.folders = layout.Folders("tenant-acme")
        self.notes = Notes()
        os.makedirs(self.folders.streaming)

    def put(self, name, size=layout.SEGMENT):
        with open(os.path.join(self.folders.streaming, name), "w") as file:
            file.truncate(size)

    def streaming(self):
        return {
            name: os.path.getsize(os.path.join(self.folders.streaming, name))
            for name in os.listdir(self.folders.streaming)
        }


class Gap(WalTest):
    def begin(self, first):
        return wal.begin_after_gap(self.folders, self.notes, first)

    def test_what_goes_on_is_no_gap(self):
        self.put(FIRST + ".partial")
        for first in (FIRST, "000000010000000000000003", "0000000200000000000000FF", "None", ""):
            self.assertIsNone(self.begin(first), first)
        self.assertEqual(self.streaming(), {FIRST + ".partial": layout.SEGMENT})
        self.assertFalse(self.notes.is_due())

    def test_where_nothing_was_received_there_is_no_gap(self):
        self.assertIsNone(self.begin(LATER))
        self.assertEqual(self.streaming(), {})

    def test_after_a_gap_what_there_is_stays_and_a_base_backup_is_due(self):
        self.put(FIRST + ".partial")
        self.assertIn(f"between {FIRST} and {LATER}", self.begin(LATER))
        self.assertEqual(self.streaming(), {FIRST: layout.SEGMENT, LATER + ".partial": 0})
        self.assertTrue(self.notes.is_due())

    def test_a_part_that_a_full_disk_left_is_no_segment(self):
        self.put(FIRST + ".partial", 5)
        self.begin(LATER)
        self.assertEqual(self.streaming(), {LATER + ".partial": 0})

    def test_after_a_last_complete_segment_the_next_is_no_gap(self):
        self.put(FIRST)
        self.assertIsNone(self.begin(layout.next_segment(FIRST)))
        self.assertIsNotNone(self.begin(LATER))
        self.assertEqual(self.streaming(), {FIRST: layout.SEGMENT, LATER + ".partial": 0})

    def test_a_partial_segment_of_another_size_is_emptied(self):
        self.put(FIRST + ".partial", 5)
        wal.truncate_partial(self.folders)
        self.assertEqual(self.streaming(), {FIRST + ".partial": 0})
        self.put(FIRST + ".partial")
        wal.truncate_partial(self.folders)
        self.assertEqual(self.streaming(), {FIRST + ".partial": layout.SEGMENT})


class Adopt(WalTest):
    def adopt(self, system, volume=""):
        return wal.adopt(self.folders, self.notes, system, volume, 7)

    def test_the_first_data_is_noted(self):
        self.assertIsNone(self.adopt("71", "a"))
        self.assertEqual(self.notes.identity(), {"system": "71", "volume": "a"})
        self.assertIsNone(self.adopt("71", "a"))
        self.assertFalse(self.notes.is_due())

    def test_a_volume_that_is_named_later_is_the_same(self):
        self.adopt("71")
        self.assertIsNone(self.adopt("71", "a"))
        self.assertEqual(self.notes.identity(), {"system": "71", "volume": "a"})

    def test_backups_of_other_data_are_kept_under_a_name_of_their_own(self):
        self.adopt("71", "a")
        os.makedirs(self.folders.wals)
        open(os.path.join(self.folders.wals, "tenant-acme-xlog.db"), "w").close()
        self.put(FIRST)
        self.assertEqual(self.adopt("72", "b"), "acme-71")
        aside = layout.Folders("tenant-acme-71")
        self.assertEqual(os.listdir(aside.streaming), [FIRST])
        self.assertEqual(os.listdir(aside.wals), ["tenant-acme-71-xlog.db"])
        self.assertEqual(Notes(aside.home).retired()["retention"], 7)
        self.assertFalse(os.path.exists(self.folders.home))
        self.assertTrue(self.notes.is_due())
        self.assertEqual(self.notes.identity(), {"system": "72", "volume": "b"})

    def test_the_same_system_in_another_volume_is_other_data_and_names_are_not_reused(self):
        self.adopt("71", "a")
        self.assertEqual(self.adopt("71", "b"), "acme-71")
        os.makedirs(self.folders.streaming)
        self.assertEqual(self.adopt("71", "c"), "acme-71-2")

    def test_a_run_that_was_cut_off_goes_on(self):
        self.adopt("71", "a")
        os.makedirs(self.folders.wals)
        open(os.path.join(self.folders.wals, "tenant-acme-71-xlog.db"), "w").close()
        self.assertEqual(self.adopt("72", "a"), "acme-71")
        self.assertEqual(os.listdir(layout.Folders("tenant-acme-71").wals), ["tenant-acme-71-xlog.db"])
        # The folder was renamed, and nothing noted.
        self.notes.note_identity("71", "a")
        self.assertIsNone(self.adopt("72", "a"))
        self.assertEqual(self.notes.identity()["system"], "72")


class Timeline(WalTest):
    def adopt(self, timeline="00000002", history=HISTORY):
        wal.adopt_timeline(self.folders, self.notes, timeline, history, 7)

    def test_the_timeline_that_was_left_is_complete_and_the_new_one_begins(self):
        self.put("000000010000000000000007.partial")
        self.adopt()
        self.assertEqual(
            self.streaming(),
            {
                "000000010000000000000007": layout.SEGMENT,
                "00000002.history": len(HISTORY),
                "000000020000000000000007.partial": 0,
            },
        )
        self.assertTrue(self.notes.is_due())

    def test_it_is_done_once(self):
        self.adopt()
        self.put("000000020000000000000007.partial")
        self.notes.clear_due()
        self.adopt()
        self.assertEqual(self.streaming()["000000020000000000000007.partial"], layout.SEGMENT)
        self.assertFalse(self.notes.is_due())

    def test_of_a_history_that_is_none_nothing_is_taken(self):
        for timeline, history in (
            ("2", HISTORY),
            ("../0002", HISTORY),
            ("00000002", ""),
            ("00000002", "1 0/0 x\n"),
        ):
            with self.assertRaises(layout.Failure):
                self.adopt(timeline, history)
        self.assertEqual(self.streaming(), {})

    def test_a_tenant_without_backups_has_nothing_to_adopt(self):
        os.rmdir(self.folders.streaming)
        os.rmdir(self.folders.home)
        self.adopt()
        self.assertFalse(os.path.exists(self.folders.home))


class LockTest(WalTest):
    def test_one_holds_it_and_barman_can_read_who(self):
        one, other = wal.Lock(self.folders.lock("receive-wal")), wal.Lock(self.folders.lock("receive-wal"))
        self.assertTrue(one.try_acquire())
        self.assertFalse(other.try_acquire())
        self.assertTrue(other.is_held())
        with open(one.path) as file:
            self.assertEqual(int(file.read()), os.getpid())
        # A child of the holder has the same file open.
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        one.release()
        self.assertTrue(other.try_acquire())
        other.release()
        os.close(read)
        os.close(write)
        os.waitpid(pid, 0)
