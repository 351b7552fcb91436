"""Reads a tenant's backup volume, in which code of that tenant may have put anything.

No link is followed, nothing but regular files and folders is opened, and what is read has an end.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

# Entries of one of Barman's folders: 16 TiB of WAL have as many.
MOST_ENTRIES = 1 << 16

MOST_DEPTH = 64


class Unfit(Exception):
    """What is in the volume is not what Barman leaves there."""


def open_folder(name: str, at: int | None = None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)


@contextmanager
def folder(*names: str, at: int | None = None) -> Iterator[int]:
    """A folder by the way to it, of which no part may be a link."""
    descriptor = open_folder(names[0], at)
    try:
        for name in names[1:]:
            inner = open_folder(name, descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def regular_file(name: str, at: int) -> Iterator[tuple[int, os.stat_result]]:
    # A pipe would otherwise wait for whoever writes to it.
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unfit(f"{name!a} is no regular file")
        yield descriptor, status
    finally:
        os.close(descriptor)


def read_small(name: str, at: int, most: int) -> bytes:
    with regular_file(name, at) as (descriptor, status):
        if status.st_size > most:
            raise Unfit(f"{name!a} has {status.st_size} bytes, more than {most}")
        return b"".join(read_exactly(descriptor, status.st_size, name))


def read_exactly(descriptor: int, size: int, name: str) -> Iterator[bytes]:
    """So many bytes, however the file grows meanwhile, in chunks of at most 1 MiB."""
    left = size
    while left > 0:
        chunk = os.read(descriptor, min(left, 1 << 20))
        if not chunk:
            raise Unfit(f"{name!a} became shorter while it was read")
        left -= len(chunk)
        yield chunk


def names_in(descriptor: int, pattern: "re.Pattern[str]") -> list[str]:
    """Of a folder's entries those that match, sorted."""
    found = []
    with os.scandir(descriptor) as entries:
        for number, entry in enumerate(entries):
            if number >= MOST_ENTRIES:
                raise Unfit(f"a folder has more than {MOST_ENTRIES} entries")
            if pattern.fullmatch(entry.name):
                found.append(entry.name)
    return sorted(found)


class Entry(NamedTuple):
    """A folder or regular file below a folder that is walked."""

    path: str
    name: str
    # The folder that it is in; it is closed when the walk goes on.
    at: int
    status: os.stat_result

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


def walk(root: int, name: str) -> Iterator[Entry]:
    """The folder `name` of `root` with all regular files and folders below it, a folder before what is in it.

    Links and special files are passed over: those to tablespaces follow from the folders beside the data.
    """
    status = os.stat(name, dir_fd=root, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        raise Unfit(f"{name!a} is no folder")
    yield Entry(name, name, root, status)
    way = []
    try:
        way.append(_Level(name, open_folder(name, root)))
        while way:
            level = way[-1]
            entry = next(level.entries, None)
            if entry is None:
                way.pop().close()
                continue
            try:
                status = os.stat(entry.name, dir_fd=level.descriptor, follow_symlinks=False)
            except FileNotFoundError:
                raise Unfit("it was deleted while it was read") from None
            path = f"{level.path}/{entry.name}"
            if stat.S_ISDIR(status.st_mode):
                if len(way) >= MOST_DEPTH:
                    raise Unfit(f"it has more than {MOST_DEPTH} folders in each other")
                yield Entry(path, entry.name, level.descriptor, status)
                way.append(_Level(path, open_folder(entry.name, level.descriptor)))
            elif stat.S_ISREG(status.st_mode):
                yield Entry(path, entry.name, level.descriptor, status)
    finally:
        for level in way:
            level.close()


class _Level:
    def __init__(self, path: str, descriptor: int):
        self.path = path
        self.descriptor = descriptor
        self.entries = os.scandir(descriptor)

    def close(self) -> None:
        self.entries.close()
        os.close(self.descriptor)
