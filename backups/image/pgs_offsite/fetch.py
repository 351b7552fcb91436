"""Fetches what a restore needs out of the bucket, as Barman would have it in a tenant's backup volume.

Nothing of what is fetched runs here. The bucket may have been written to by others: every size has an end, and files
are written below the folder alone.
"""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from . import names, tarball
from .compression import Decompressed, read_all

RECORD_BYTES = 1 << 20

# What a restore needs beside data and WAL, to work with.
SPARE_BYTES = 256 << 20

# Each has a segment in memory.
THREADS = 4


class NotThere(Exception):
    """The bucket has nothing that a restore to that time could begin with."""


class Unreadable(Exception):
    """An object of the bucket is damaged, or gone."""


class Backup(NamedTuple):
    backup: str
    # Of the base backup's data.
    key: str
    begin: str
    # Bytes of its files.
    size: int
    parent: str | None
    text: bytes
    record: names.Record


def fetch(bucket, tenant: str, at: datetime | None, to: str) -> str:
    """@returns the name of the base backup that the restore begins with"""
    server = names.server_name(tenant)
    archive, chain, path = _choose(bucket, server, at)
    wal = archive.wal_of(chain[-1], path)
    _demand_room(to, sum(backup.size for backup in chain) + len(wal) * names.SEGMENT_BYTES)
    home = f"{to}/{server}"
    shutil.rmtree(home, ignore_errors=True)
    for inner in ("base", "meta", "wals", "streaming"):
        os.makedirs(f"{home}/{inner}")
    for backup in chain:
        archive.fetch_base(backup, home)
    archive.fetch_wal(wal, home)
    return chain[-1].backup


def _choose(bucket, server: str, at: datetime | None):
    """The newest archive that has a base backup for that time."""
    folders = [name for name in bucket.folders(f"{server}/") if names.ARCHIVE.fullmatch(name)]
    for name in sorted(folders, reverse=True):
        archive = Archive(bucket, f"{server}/{name}")
        found = archive.choose(at)
        if found:
            return archive, *found
    before = f" from before {at.isoformat()}" if at else ""
    raise NotThere(f"there is no base backup of {server.removeprefix('tenant-')}{before} at {bucket.url}")


class Archive:
    """One line of a tenant's backups."""

    def __init__(self, bucket, prefix: str):
        self._bucket = bucket
        self._prefix = prefix
        self._wal: dict[str, str] = {}
        self._modified: dict[str, float] = {}
        for key, modified in bucket.listing(f"{prefix}/wals/"):
            if match := names.WAL_OBJECT.fullmatch(f"wals/{key}"):
                self._wal[match[1]] = f"wals/{key}"
                self._modified[match[1]] = modified
        self._begun = self._timelines()
        self._backups = self._read_backups()

    @contextmanager
    def _reading(self, key: str) -> Iterator[str]:
        """Says which object cannot be read: the error of a library does not."""
        whole = f"{self._prefix}/{key}"
        try:
            yield whole
        except Exception as error:
            detail = " ".join(str(error).split()) or type(error).__name__
            raise Unreadable(f"{whole} at {self._bucket.url} cannot be read: {detail}") from error

    def _small(self, key: str, most: int) -> bytes:
        with self._reading(key) as whole:
            stream = self._bucket.open(whole)
            chunks, size = [], 0
            while chunk := stream.read(1 << 16):
                chunks.append(chunk)
                size += len(chunk)
                if size > most:
                    raise ValueError(f"it has more than {most} bytes")
            return b"".join(chunks)

    def _timelines(self) -> dict[int, float]:
        """When each but the first was begun: each restore in place began one."""
        begun = {}
        for key, _ in self._bucket.listing(f"{self._prefix}/timelines/"):
            if match := names.TIMELINE_OBJECT.fullmatch(f"timelines/{key}"):
                with self._reading(f"timelines/{key}"):
                    begun[int(match[1], 16)] = float(self._small(f"timelines/{key}", 64))
        return begun

    def _read_backups(self) -> dict[str, Backup]:
        objects, records = {}, set()
        for key, _ in self._bucket.listing(f"{self._prefix}/base/"):
            if match := names.BASE_OBJECT.fullmatch(f"base/{key}"):
                objects[match[1]] = (f"base/{key}", match[2], int(match[3]), match[4])
            elif match := names.RECORD_OBJECT.fullmatch(f"base/{key}"):
                records.add(match[1])
        found = {}
        # One without a record is being copied, or was cut off.
        for backup in sorted(records & objects.keys()):
            key = names.record_object(backup)
            # An older archive must not pass for the end of what there is.
            with self._reading(key):
                text = self._small(key, RECORD_BYTES)
                record = names.read_record(text.decode("utf-8"))
                if not record.is_complete:
                    raise ValueError("it is not that of a complete base backup")
            found[backup] = Backup(backup, *objects[backup], text, record)
        return found

    def choose(self, at: datetime | None):
        """@returns the base backup with those that it needs, itself last, and the timelines that lead to the time"""
        found = [one for one in self._backups.values() if at is None or one.record.end_time <= at]
        if not found:
            return None
        target = at.timestamp() if at else float("inf")
        timeline = max(
            [
                min(one.record.timeline for one in found),
                *(tli for tli, begun in self._begun.items() if begun <= target),
            ]
        )
        left = self._left_for(timeline)
        fitting = [
            one
            for one in found
            if one.record.timeline == timeline
            or (one.record.timeline in left and _position(one.record.end) <= left[one.record.timeline])
        ]
        for one in sorted(fitting, reverse=True):
            chain = self._chain(one)
            if chain:
                return chain, [*left, timeline]
        return None

    def _chain(self, backup: Backup) -> list[Backup] | None:
        chain = [backup]
        while chain[0].parent:
            parent = self._backups.get(chain[0].parent)
            if parent is None or len(chain) > 10:
                return None
            chain.insert(0, parent)
        return chain

    def _left_for(self, timeline: int) -> dict[int, int]:
        """Of the timelines that lead to this one, each by where it was left."""
        key = self._wal.get(f"{timeline:08X}.history")
        if key is None:
            return {}
        with self._reading(key) as whole:
            text = read_all(self._bucket.open(whole), 1 << 20).decode("utf-8")
            lines = [line.split() for line in text.splitlines()]
            return {
                int(line[0]): _position(line[1]) for line in lines if len(line) >= 2 and line[0].isdigit()
            }

    def wal_of(self, backup: Backup, path: list[int]) -> list[str]:
        """All from the base backup on, of the timelines that lead to the time; of the others, that they were begun."""
        wal = []
        for name in sorted(self._wal):
            if not name.endswith(".history"):
                if int(name[:8], 16) not in path or names.position_of(name) < names.position_of(backup.begin):
                    continue
                # One that was being filled counts until it is there as a whole.
                if name.endswith(".partial") and name.removesuffix(".partial") in self._wal:
                    continue
            wal.append(name)
        # What is missing later is seen where it is laid out.
        if backup.begin not in wal and f"{backup.begin}.partial" not in wal:
            raise NotThere(f"the WAL has a gap: {backup.begin} is missing at {self._bucket.url}")
        return wal

    def fetch_base(self, backup: Backup, home: str) -> None:
        folder = f"{home}/base/{backup.backup}"
        os.mkdir(folder, 0o700)
        with self._reading(backup.key) as whole:
            tarball.extract(Decompressed(self._bucket.open(whole)), folder, backup.size)
        _link_tablespaces(folder)
        with open(f"{home}/meta/{backup.backup}-backup.info", "wb") as file:
            file.write(backup.text)

    def fetch_wal(self, wal: list[str], home: str) -> None:
        def fetch_one(name: str) -> None:
            key = self._wal[name]
            with self._reading(key) as whole:
                data = read_all(self._bucket.open(whole), names.SEGMENT_BYTES)
            path = f"{home}/{_place_of(name)}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
            begun = self._time_of(name)
            os.utime(path, (begun, begun))

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(fetch_one, wal))
        # Barman's list of what it filed.
        with open(f"{home}/wals/{os.path.basename(home)}-xlog.db", "w", encoding="ascii") as file:
            for name in wal:
                if not name.endswith(".partial"):
                    size = os.path.getsize(f"{home}/{_place_of(name)}")
                    file.write(f"{name}\t{size}\t{self._time_of(name)}\tNone\tNone\n")

    def _time_of(self, name: str) -> float:
        return (self._begun if name.endswith(".history") else {}).get(int(name[:8], 16), self._modified[name])


def _place_of(name: str) -> str:
    if name.endswith(".partial"):
        return f"streaming/{name}"
    return f"wals/{name}" if name.endswith(".history") else f"wals/{name[:16]}/{name}"


def _position(lsn: str) -> int:
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def _link_tablespaces(folder: str) -> None:
    """As pg_basebackup leaves them for pg_combinebackup: from the data to the folders beside it."""
    for name in os.listdir(folder):
        if name != "data":
            os.symlink(f"{folder}/{name}", f"{folder}/data/pg_tblspc/{name}")


def _demand_room(to: str, size: int) -> None:
    """A full disk would stop the other tenants of the host."""
    needed, free = size + SPARE_BYTES, shutil.disk_usage(to).free
    if free < needed:
        where = "on the disk of Docker's volumes"
        raise NotThere(f"it needs {needed >> 20} MiB {where}, and {free >> 20} MiB are free")
