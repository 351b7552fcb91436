"""A bucket in memory, and a tenant's backup volume as Barman leaves it."""

import io
import os
import tempfile
import unittest
from pathlib import Path

DAY = 86_400


class FakeBucket:
    """Keeps objects, and notes each key that is written a second time."""

    url = "s3://bucket/path"

    def __init__(self):
        self.objects = {}
        self.written_over = []
        self.now = 1_000_000_000.0
        self.away = False
        self.parts = 0
        self.aborted = 0

    def _reach(self):
        if self.away:
            raise ConnectionError("no connection")

    def _write(self, key, data):
        if key in self.objects:
            self.written_over.append(key)
        self.objects[key] = (data, self.now)

    def listing(self, prefix):
        from pgs_offsite.bucket import Object

        self._reach()
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield Object(key[len(prefix) :], self.objects[key][1])

    def folders(self, prefix):
        return sorted({key.split("/")[0] for key, _ in self.listing(prefix) if "/" in key})

    def put(self, key, data):
        self._reach()
        self._write(key, data)

    def open(self, key):
        self._reach()
        return io.BytesIO(self.objects[key][0])

    def start(self, key):
        self._reach()
        return _FakeUpload(self, key)

    def delete(self, keys):
        self._reach()
        for key in keys:
            self.objects.pop(key, None)

    def keys(self, of):
        return [key for key in sorted(self.objects) if key.startswith(of)]


class _FakeUpload:
    def __init__(self, bucket, key):
        self._bucket, self._key, self._parts = bucket, key, []

    def add(self, part):
        self._bucket._reach()
        self._bucket.parts += 1
        self._parts.append(part)

    def complete(self):
        self._bucket._write(self._key, b"".join(self._parts))

    def abort(self):
        self._bucket.aborted += 1


class Volume:
    """A tenant's backup volume."""

    def __init__(self, folder, tenant):
        self.root = Path(folder) / tenant
        self.home = self.root / f"tenant-{tenant}"
        for name in ("wals", "streaming", "meta", "base"):
            (self.home / name).mkdir(parents=True)
        (self.home / "identity.json").write_text('{"systemid": "7", "version": "18"}')

    def wal(self, number, timeline=1, place="wals", size=1 << 12):
        name = f"{timeline:08X}{0:08X}{number:08X}"
        folder = self.home / "wals" / name[:16] if place == "wals" else self.home / "streaming"
        folder.mkdir(exist_ok=True)
        path = folder / (f"{name}.partial" if place == "partial" else name)
        path.write_bytes(name.encode() * (size // 24))
        return path

    def base(self, backup, begin, parent=None, status="DONE", files=None, end_time=None, timeline=1):
        folder = self.home / "base" / backup
        for path, content in (
            files or {"data/PG_VERSION": b"18\n", "data/base/1/2": os.urandom(3000)}
        ).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        end = end_time or f"{backup[:4]}-{backup[4:6]}-{backup[6:8]} {backup[9:11]}:{backup[11:13]}:59+00:00"
        record = {
            "status": status,
            "begin_wal": f"{timeline:08X}{0:08X}{begin:08X}",
            "end_xlog": f"0/{begin:02X}000100",
            "end_time": end,
            "timeline": timeline,
            "parent_backup_id": parent,
            "version": 180006,
        }
        text = "".join(f"{name}={value}\n" for name, value in record.items())
        (self.home / "meta" / f"{backup}-backup.info").write_text(text)
        return folder


class OffsiteTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.bucket = FakeBucket()

    def volume(self, tenant="acme"):
        return Volume(self.folder / "backups", tenant)

    def copies(self, tenant="acme", days=7):
        from pgs_offsite.copies import Copies, State

        state = State(str(self.folder / f"{tenant}.json"))
        return Copies(tenant, days, str(self.folder / "backups" / tenant), state)

    def copy_all(self, copies):
        """As often as something is left."""
        for _ in range(20):
            if not copies.copy_wal(self.bucket):
                break
        self.copy_bases(copies)

    def copy_bases(self, copies):
        for _ in copies.copy_bases(self.bucket):
            pass

    def names(self, tenant="acme"):
        """Keys without the archive."""
        return [key.split("/", 2)[2] for key in self.bucket.keys(f"tenant-{tenant}/")]
