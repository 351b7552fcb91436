import os
import tempfile
import unittest

from pgs_backup.notes import Notes, read_bounded, typed


class NotesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = folder.name
        self.notes = Notes(self.home)

    def path(self, name):
        return os.path.join(self.home, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)

    def test_what_is_noted_is_read(self):
        self.assertIsNone(self.notes.identity())
        self.notes.note_identity("7412", "abc")
        self.assertEqual(self.notes.identity(), {"system": "7412", "volume": "abc"})
        self.notes.note_due()
        self.assertTrue(self.notes.is_due())
        self.notes.clear_due()
        self.notes.clear_due()
        self.assertFalse(self.notes.is_due())
        self.notes.note_retired(7)
        self.assertEqual(self.notes.retired()["retention"], 7)

    def test_a_bad_note_counts_as_none(self):
        for text in (
            "",
            "}{",
            "[]",
            '{"at": "1", "retention": 7}',
            '{"at": -1, "retention": 7}',
            "[" * 100_000,
        ):
            self.write("retired.json", text)
            self.assertIsNone(self.notes.retired(), text[:20])

    def test_a_number_is_no_truth_value_and_fits_into_javascript(self):
        self.assertIsNone(typed(b'{"at": true}', {"at": int}))
        self.assertIsNone(typed(b'{"at": 9007199254740992}', {"at": int}))
        self.assertEqual(typed(b'{"at": 9007199254740991}', {"at": int}), {"at": 9007199254740991})

    def test_only_a_plain_file_within_its_limit_is_read(self):
        os.mkfifo(self.path("fifo"))
        self.assertIsNone(read_bounded(self.path("fifo")))
        os.symlink("/etc/passwd", self.path("link"))
        self.assertIsNone(read_bounded(self.path("link")))
        self.assertIsNone(read_bounded(self.home))
        self.write("long", "x" * 11)
        self.assertIsNone(read_bounded(self.path("long"), 10))
        self.assertEqual(read_bounded(self.path("long"), 11), b"x" * 11)

    def test_a_link_in_the_place_of_a_note_is_replaced_and_not_followed(self):
        self.write("victim", "untouched")
        for name in ("due.json", "due.json.new"):
            os.symlink(self.path("victim"), self.path(name))
        self.notes.note_due()
        self.assertTrue(self.notes.is_due())
        self.assertEqual(read_bounded(self.path("victim")), b"untouched")
