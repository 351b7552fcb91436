"""The copies of one tenant's backups.

What steers them are names that match Barman's patterns, and of Barman's records where a base backup's WAL begins and on
which other it is made. Both go into the names of the objects when they are written. What is deleted in the bucket is
decided by those names and the server's times alone: code that gets into a tenant's backups deletes no earlier copy.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from . import names, tarball
from .bucket import LEAST_PART, MOST_PARTS
from .compression import compress, compressor
from .volume import Unfit, folder, names_in, read_exactly, read_small, regular_file, walk

# How often a segment that the server still fills is copied when it has changed, in seconds.
PARTIAL_INTERVAL = 60

# What a tenant may take of a turn before another has its own: segments, and seconds.
TURN_SEGMENTS = 16
TURN_SECONDS = 20

RECORD_BYTES = 1 << 20

# Parts of a base backup's object. Ten thousand of the largest are 320 GB, compressed.
SMALLEST_PART = 8 << 20
LARGEST_PART = 32 << 20

# A file system may compress; a base backup that is larger than the disk by more has files that are mostly holes.
MOST_COMPRESSION = 4


class State:
    """What is kept of a tenant's copies over a restart, in a file of its own."""

    def __init__(self, path: str):
        self._path = path
        try:
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
        except FileNotFoundError:
            found = {}
        # Where the archive is, and whose it is: of other backups, or at another destination, there is another.
        self.destination: str = found.get("destination", "")
        self.line: str = found.get("line", "")
        self.archive: str = found.get("archive", "")
        # Segments before it are not copied.
        self.first: str = found.get("first", "")
        # By timeline the last segment that is there.
        self.copied: dict[str, str] = found.get("copied", {})
        self.histories: list[str] = found.get("histories", [])
        # The segment of which a part is there.
        self.partial: str | None = found.get("partial")

    def begin(self, destination: str, line: str, first: str) -> None:
        self.destination, self.line, self.first = destination, line, first
        # Another host may have written of the same tenant: nothing of it is ever written over.
        self.archive = names.new_archive()
        self.copied, self.histories, self.partial = {}, [], None
        self.save()

    def save(self) -> None:
        fields = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        with open(f"{self._path}.new", "w", encoding="utf-8") as file:
            json.dump(fields, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{self._path}.new", self._path)


class Base(NamedTuple):
    """A base backup in the bucket."""

    key: str
    begin: str
    parent: str | None
    # When its record was written, which comes last; None: it never was.
    complete: float | None


class Copies:
    """What there is to do for one tenant. One thread calls copy_wal(), and another the steps of copy_bases()."""

    def __init__(self, tenant: str, days: int, volume: str, state: State):
        self.tenant = tenant
        self._days = days
        self._volume = volume
        self._server = names.server_name(tenant)
        self._state = state
        self._gap: str | None = None
        self._partial: tuple[str, int] = ("", 0)
        self._partial_copied = float("-inf")
        self._bases: dict[str, Base] = {}
        self._listed = ""
        # For the status: start of the newest base backup there, as of when all WAL is there, segments that wait.
        self.newest_base = 0.0
        self.wal_complete = 0.0
        self.waiting = 0

    # --- WAL ---

    def copy_wal(self, bucket) -> bool:
        """A turn. @returns whether more waits"""
        if not self._open_archive(bucket):
            return False
        began, now = time.monotonic(), time.time()
        with folder(self._volume, self._server) as home:
            self._copy_histories(bucket, home)
            segments, more = self._waiting_segments(home)
            for place, segment in segments[:TURN_SEGMENTS]:
                try:
                    self._copy_segment(bucket, home, place, segment)
                except FileNotFoundError:
                    # Barman filed it meanwhile; the next turn finds it.
                    return True
                self.waiting -= 1
                if time.monotonic() - began > TURN_SECONDS:
                    break
            if self.waiting > 0 or more:
                return self.waiting > 0
            if self._copy_partial(bucket, home):
                self.wal_complete = now
        return False

    def _open_archive(self, bucket) -> bool:
        """Of other backups than before, in a volume that was made again or on another host, there is another archive."""
        try:
            with folder(self._volume, self._server) as home:
                identity = read_small("identity.json", home, 1 << 16)
                with folder("wals", at=home):
                    pass
                line = hashlib.sha256(identity + b"%d" % os.fstat(home).st_ino).hexdigest()
                destination = f"{bucket.url}/{self._server}"
                if (self._state.line, self._state.destination) != (line, destination):
                    newest = self._newest_base(home)
                    self._state.begin(destination, line, newest[1].begin if newest else "")
        except FileNotFoundError:
            # Barman has not begun.
            return False
        return True

    def _key(self, name: str) -> str:
        return f"{self._server}/{self._state.archive}/{name}"

    def _copy_histories(self, bucket, home: int) -> None:
        for place in ("streaming", "wals"):
            with folder(place, at=home) as inner:
                for name in names_in(inner, names.HISTORY):
                    if name in self._state.histories:
                        continue
                    with regular_file(name, inner) as (_, status):
                        # A restore has to know from when on the timeline was the tenant's.
                        begun = str(status.st_mtime).encode()
                    history = compress(read_small(name, inner, 1 << 20))
                    bucket.put(self._key(f"timelines/{name[:8]}"), begun)
                    bucket.put(self._key(names.wal_object(name)), history)
                    self._state.histories.append(name)
                    self._state.save()

    def _waiting_segments(self, home: int) -> tuple[list[tuple[tuple[str, ...], str]], bool]:
        """The complete segments that are not there, up to a gap, each with its folder; and whether one follows it."""
        found: dict[str, tuple[str, ...]] = {}
        # First where segments leave: one that is filed in between is found in the other.
        with folder("streaming", at=home) as streaming:
            for segment in names_in(streaming, names.SEGMENT):
                if self._is_new(segment):
                    found[segment] = ("streaming",)
        with folder("wals", at=home) as wals:
            for inner_name in names_in(wals, names.WAL_FOLDER):
                if inner_name < self._state.copied.get(names.timeline_of(inner_name), self._state.first)[:16]:
                    continue
                with folder(inner_name, at=wals) as inner:
                    for segment in names_in(inner, names.SEGMENT):
                        if segment.startswith(inner_name) and self._is_new(segment):
                            found[segment] = ("wals", inner_name)
        self.waiting = len(found)
        ready = []
        last = dict(self._state.copied)
        for segment in sorted(found):
            timeline = names.timeline_of(segment)
            before = last.get(timeline)
            # A segment that is renamed while the folder is read may not show: only a gap that stays is one.
            if before and segment != names.next_segment(before) and segment != self._gap:
                self._gap = segment
                return ready, True
            last[timeline] = segment
            ready.append((found[segment], segment))
        return ready, False

    def _is_new(self, segment: str) -> bool:
        copied = self._state.copied.get(names.timeline_of(segment))
        return segment > copied if copied else segment >= self._state.first

    def _copy_segment(self, bucket, home: int, place: tuple[str, ...], segment: str) -> None:
        with folder(*place, at=home) as inner:
            data = _compressed_segment(inner, segment)
        bucket.put(self._key(names.wal_object(segment)), data)
        if self._state.partial == segment:
            bucket.delete([self._key(names.wal_object(f"{segment}.partial"))])
            self._state.partial = None
        self._state.copied[names.timeline_of(segment)] = segment
        self._state.save()

    def _copy_partial(self, bucket, home: int) -> bool:
        """@returns whether nothing is left to be copied"""
        with folder("streaming", at=home) as streaming:
            found = names_in(streaming, names.PARTIAL)
            if not found:
                return True
            # pg_receivewal writes to the newest.
            name = found[-1]
            with regular_file(name, streaming) as (_, status):
                now = (name, status.st_mtime_ns)
            if now == self._partial or status.st_size == 0:
                return True
            if time.monotonic() - self._partial_copied < PARTIAL_INTERVAL:
                return False
            data = _compressed_segment(streaming, name)
        segment = name.removesuffix(".partial")
        if self._state.partial != segment:
            self._state.partial = segment
            self._state.save()
        bucket.put(self._key(names.wal_object(name)), data)
        self._partial, self._partial_copied = now, time.monotonic()
        return True

    # --- base backups ---

    def copy_bases(self, bucket) -> Iterator[None]:
        """Copies the newest base backup, with those that it is made on. Another tenant may have a turn at each step."""
        if not self._state.archive or self._state.destination != f"{bucket.url}/{self._server}":
            return
        archive = self._state.archive
        if self._listed != archive:
            self._bases = self._list_bases(bucket)
            self._listed = archive
            self._note_newest()
        while self._state.archive == archive:
            with folder(self._volume, self._server) as home:
                missing = self._missing_base(home)
                if missing is None:
                    return
                backup, record, text = missing
                yield from self._copy_base(bucket, home, backup, record, text)
            self._bases = self._list_bases(bucket)
            self._note_newest()
            yield
            yield from self._delete_old(bucket)

    def _newest_base(self, home: int) -> tuple[str, names.Record, bytes] | None:
        with folder("meta", at=home) as meta:
            records = names_in(meta, names.RECORD)
        for name in reversed(records):
            backup = name[:15]
            record, text = self._record(home, backup)
            if record.is_complete:
                return backup, record, text
        return None

    def _record(self, home: int, backup: str) -> tuple[names.Record, bytes]:
        with folder("meta", at=home) as meta:
            text = read_small(f"{backup}-backup.info", meta, RECORD_BYTES)
        try:
            return names.read_record(text.decode("utf-8")), text
        except ValueError as error:
            raise Unfit(f"Barman's record of base backup {backup}: {error}") from None

    def _missing_base(self, home: int) -> tuple[str, names.Record, bytes] | None:
        """Of the newest base backup and those that it is made on the first that is not there."""
        found = self._newest_base(home)
        missing = None
        for _ in range(10):
            if found is None or self._is_there(found[0]):
                return missing
            missing = found
            parent = found[1].parent
            found = (parent, *self._record(home, parent)) if parent else None
        raise Unfit("a base backup is made on too many others")

    def _is_there(self, backup: str) -> bool:
        return backup in self._bases and self._bases[backup].complete is not None

    def _list_bases(self, bucket) -> dict[str, Base]:
        objects, records = {}, {}
        for key, modified in bucket.listing(self._key("base/")):
            if match := names.BASE_OBJECT.fullmatch(f"base/{key}"):
                objects[match[1]] = (f"base/{key}", match[2], match[4])
            elif match := names.RECORD_OBJECT.fullmatch(f"base/{key}"):
                records[match[1]] = modified
        return {backup: Base(*fields, records.get(backup)) for backup, fields in objects.items()}

    def _note_newest(self) -> None:
        complete = [backup for backup in self._bases if self._is_there(backup)]
        self.newest_base = names.begun_at(max(complete)) if complete else 0.0

    def _copy_base(self, bucket, home: int, backup: str, record: names.Record, text: bytes) -> Iterator[None]:
        with folder("base", backup, at=home) as base:
            size = files = 0
            disk = os.fstatvfs(base)
            most = disk.f_blocks * disk.f_frsize * MOST_COMPRESSION
            parts = names_in(base, names.BASE_FOLDER)
            for part in parts:
                for entry in walk(base, part):
                    files += 1
                    size += 0 if entry.is_folder else entry.status.st_size
                    if size > most:
                        raise Unfit(f"base backup {backup} has files of more bytes than the disk")
                    if files % 10_000 == 0:
                        yield
            key = self._key(names.base_object(backup, record.begin, size, record.parent))
            upload = bucket.start(key)
            try:
                yield from _add_parts(upload, _tar(base, parts), size)
                upload.complete()
            except BaseException:
                upload.abort()
                raise
        bucket.put(self._key(names.record_object(backup)), text)

    def _delete_old(self, bucket) -> Iterator[None]:
        """Of the base backups those, and the WAL, that no restore to a time within the retention needs."""
        complete = {backup: base for backup, base in self._bases.items() if base.complete is not None}
        # What was just written has the time of the server's clock: whatever this host's says, nothing goes too early.
        cutoff = max(base.complete for base in complete.values()) - self._days * 86_400
        kept = {backup for backup, base in complete.items() if base.complete > cutoff}
        before = [backup for backup in complete if backup not in kept]
        if before:
            kept.add(max(before, key=lambda backup: (complete[backup].complete, backup)))
        for backup in sorted(kept, reverse=True):
            while (parent := complete[backup].parent) in complete and parent not in kept:
                kept.add(parent)
                backup = parent
        old = [backup for backup in complete if backup not in kept]
        # The record first: what is half deleted is not complete.
        bucket.delete(self._key(names.record_object(backup)) for backup in old)
        bucket.delete(self._key(complete[backup].key) for backup in old)
        for backup in old:
            del self._bases[backup]
        yield
        needed = min(names.position_of(complete[backup].begin) for backup in kept)
        oldest = min(complete[backup].complete for backup in kept)
        batch = []
        for number, (key, modified) in enumerate(bucket.listing(self._key("wals/"))):
            match = names.WAL_OBJECT.fullmatch(f"wals/{key}")
            if not match or match[1].endswith(".history") or modified >= min(cutoff, oldest):
                continue
            if names.position_of(match[1]) < needed:
                batch.append(self._key(f"wals/{key}"))
            if number % 1000 == 999:
                yield
            if len(batch) == 1000:
                bucket.delete(batch)
                batch = []
        bucket.delete(batch)


def _compressed_segment(at: int, name: str) -> bytes:
    with regular_file(name, at) as (descriptor, status):
        if status.st_size > names.SEGMENT_BYTES:
            raise Unfit(f"WAL segment {name} has {status.st_size} bytes, more than {names.SEGMENT_BYTES}")
        return compress(b"".join(read_exactly(descriptor, status.st_size, name)))


def _tar(base: int, parts: list[str]) -> Iterator[bytes]:
    for part in parts:
        yield from tarball.write(walk(base, part))
    yield tarball.END


def _add_parts(upload, chunks: Iterator[bytes], size: int) -> Iterator[None]:
    """A step is a part, or what can be read in a turn's time: there may be gigabytes of zeros in a megabyte."""
    part_size = min(max(SMALLEST_PART, size // (MOST_PARTS - 1000)), LARGEST_PART)
    frame = compressor()
    buffer = bytearray(frame.begin())
    began = time.monotonic()
    for chunk in chunks:
        buffer += frame.compress(chunk)
        late = time.monotonic() - began > TURN_SECONDS
        if len(buffer) >= part_size or (late and len(buffer) >= LEAST_PART):
            upload.add(bytes(buffer))
            buffer.clear()
            late = True
        if late:
            yield
            began = time.monotonic()
    buffer += frame.flush()
    upload.add(bytes(buffer))
