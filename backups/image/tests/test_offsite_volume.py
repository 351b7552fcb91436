import os
import re
import tempfile
import unittest

from pgs_offsite import tarball
from pgs_offsite.volume import Unfit, folder, names_in, open_folder, read_small, regular_file, walk


class VolumeTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.path = temporary.name
        os.mkdir(f"{self.path}/inner")
        with open(f"{self.path}/secret", "w") as file:
            file.write("secret")
        self.root = open_folder(self.path)
        self.addCleanup(os.close, self.root)

    def test_a_link_is_followed_neither_to_a_folder_nor_to_a_file(self):
        os.symlink("/etc", f"{self.path}/link")
        os.symlink(f"{self.path}/secret", f"{self.path}/inner/file")
        with self.assertRaises(OSError), folder("link", at=self.root):
            pass
        with self.assertRaises(OSError), folder("link", "ssl", at=self.root):
            pass
        with folder("inner", at=self.root) as inner, self.assertRaises(OSError):
            read_small("file", inner, 100)

    def test_a_pipe_in_place_of_a_file_is_refused_at_once(self):
        os.mkfifo(f"{self.path}/pipe")
        with self.assertRaisesRegex(Unfit, "no regular file"), regular_file("pipe", self.root):
            pass

    def test_a_file_that_is_too_large_is_not_read(self):
        with open(f"{self.path}/large", "wb") as file:
            file.truncate(1 << 40)
        with self.assertRaisesRegex(Unfit, "1099511627776 bytes, more than 100"):
            read_small("large", self.root, 100)

    def test_names_that_do_not_match_are_passed_over(self):
        for name in ("0" * 24, "0" * 24 + "\n", "0" * 23, "\x1b[2J", "0" * 24 + ".partial"):
            open(f"{self.path}/inner/{name}", "w").close()
        with folder("inner", at=self.root) as inner:
            self.assertEqual(names_in(inner, re.compile(r"[0-9A-F]{24}")), ["0" * 24])

    def test_a_walk_has_files_and_folders_and_passes_over_the_rest(self):
        os.makedirs(f"{self.path}/inner/a/b")
        os.symlink("/etc/passwd", f"{self.path}/inner/link")
        os.symlink("/", f"{self.path}/inner/a/root")
        os.mkfifo(f"{self.path}/inner/pipe")
        open(f"{self.path}/inner/a/file", "w").close()
        found = [entry.path for entry in walk(self.root, "inner")]
        self.assertEqual(sorted(found), ["inner", "inner/a", "inner/a/b", "inner/a/file"])

    def test_folders_in_each_other_have_an_end(self):
        os.makedirs(f"{self.path}/inner/" + "/".join("d" * 80))
        with self.assertRaisesRegex(Unfit, "folders in each other"):
            list(walk(self.root, "inner"))

    def test_a_walk_leaves_no_folder_open(self):
        os.makedirs(f"{self.path}/inner/a/b")
        before = os.listdir("/proc/self/fd")
        steps = walk(self.root, "inner")
        next(steps), next(steps)
        steps.close()
        list(walk(self.root, "inner"))
        self.assertEqual(os.listdir("/proc/self/fd"), before)


class TarballTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.path = temporary.name
        os.mkdir(f"{self.path}/to")

    def extract(self, data, most=1 << 20):
        class Stream:
            left = data

            def read(self, size):
                # As a network: less than was asked for.
                chunk, self.left = self.left[: min(size, 1000)], self.left[min(size, 1000) :]
                return chunk

        tarball.extract(Stream(), f"{self.path}/to", most)

    def test_what_is_written_comes_back_with_whatever_names(self):
        names = ["plain", "n" * 200, os.fsdecode(b"\xff\xfe"), "new\nline", "ü"]
        os.makedirs(f"{self.path}/data/" + "f" * 150)
        for number, name in enumerate(names):
            with open(f"{self.path}/data/{name}", "wb") as file:
                file.write(os.urandom(number * 700))
        root = open_folder(self.path)
        self.addCleanup(os.close, root)
        self.extract(b"".join(tarball.write(walk(root, "data"))) + tarball.END)
        self.assertEqual(sorted(os.listdir(f"{self.path}/to/data")), sorted([*names, "f" * 150]))
        for name in names:
            with (
                open(f"{self.path}/data/{name}", "rb") as one,
                open(f"{self.path}/to/data/{name}", "rb") as other,
            ):
                self.assertEqual(one.read(), other.read())

    def archive(self, *entries):
        import tarfile

        data = b""
        for name, kind, size in entries:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, size, "/etc/passwd"
            data += (
                info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
                + b"x" * size
                + b"\0" * (-size % 512)
            )
        return data + tarball.END

    def test_nothing_else_than_files_and_folders_below_is_extracted(self):
        cases = [
            ("/absolute", b"0", 1, "leads out"),
            ("../up", b"0", 1, "leads out"),
            ("a/../../up", b"0", 1, "leads out"),
            ("./here", b"0", 1, "leads out"),
            ("link", b"2", 0, "neither a regular file"),
            ("hard", b"1", 0, "neither a regular file"),
            ("device", b"3", 0, "neither a regular file"),
            ("pipe", b"6", 0, "neither a regular file"),
            ("sparse", b"S", 0, "neither a regular file"),
            ("pax", b"x", 20, "neither a regular file"),
        ]
        for name, kind, size, message in cases:
            with self.subTest(name), self.assertRaisesRegex(tarball.Damaged, message):
                self.extract(self.archive((name, kind, size)))
        self.assertEqual(os.listdir(f"{self.path}/to"), [])
        self.assertEqual(sorted(os.listdir(self.path)), ["to"])

    def test_a_file_is_never_written_twice(self):
        with self.assertRaises(FileExistsError):
            self.extract(self.archive(("file", b"0", 1), ("file", b"0", 1)))

    def test_more_bytes_than_were_copied_are_refused_before_they_are_written(self):
        with self.assertRaisesRegex(tarball.Damaged, "more than the 10 bytes"):
            self.extract(self.archive(("one", b"0", 6), ("two", b"0", 6)), most=10)
        self.assertEqual(os.listdir(f"{self.path}/to"), ["one"])

    def test_one_that_is_cut_off_is_damaged(self):
        whole = self.archive(("file", b"0", 3000))
        for end in (100, 512, 2000, len(whole) - 1024):
            with self.subTest(end), self.assertRaisesRegex(tarball.Damaged, "too early"):
                self.extract(whole[:end])
            for name in os.listdir(f"{self.path}/to"):
                os.remove(f"{self.path}/to/{name}")


if __name__ == "__main__":
    unittest.main()
