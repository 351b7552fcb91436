"""Base backups as tar archives of regular files and folders, and nothing else."""

import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from .volume import MOST_DEPTH, Entry, Unfit, read_exactly, regular_file

BLOCK = tarfile.BLOCKSIZE
END = b"\0" * (2 * BLOCK)

MOST_PATH = 4096


class Damaged(Exception):
    """The archive is not one that was written here."""


def write(entries: Iterator[Entry]) -> Iterator[bytes]:
    """The archive without its end, in chunks of at most 1 MiB."""
    for entry in entries:
        if entry.is_folder:
            yield _header(entry.path, tarfile.DIRTYPE, 0)
            continue
        with regular_file(entry.name, entry.at) as (descriptor, status):
            yield _header(entry.path, tarfile.REGTYPE, status.st_size)
            yield from read_exactly(descriptor, status.st_size, entry.name)
            yield b"\0" * (-status.st_size % BLOCK)


def _header(path: str, kind: bytes, size: int) -> bytes:
    if len(os.fsencode(path)) > MOST_PATH:
        raise Unfit("it has a path that is too long")
    info = tarfile.TarInfo(path)
    info.type, info.size = kind, size
    info.mode = 0o700 if kind == tarfile.DIRTYPE else 0o600
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def extract(stream: BinaryIO, to: str, most: int) -> None:
    """Writes an archive's files below the empty folder `to`.

    @param most: bytes that they may have together
    @raises Damaged: on a link, a path that leads out, more bytes, or anything else that write() makes none of
    """
    root = os.open(to, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    written = 0
    try:
        while True:
            entry = _next_entry(stream)
            if entry is None:
                return
            path = _safe_path(entry.name)
            if entry.type == tarfile.DIRTYPE:
                os.mkdir(path, 0o700, dir_fd=root)
                continue
            written += entry.size
            if written > most:
                raise Damaged(f"it has more than the {most} bytes that were copied")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(path, flags, 0o600, dir_fd=root), "wb") as file:
                for chunk in _read(stream, entry.size):
                    file.write(chunk)
            for _ in _read(stream, -entry.size % BLOCK):
                pass
    except tarfile.TarError as error:
        raise Damaged(str(error)) from None
    finally:
        os.close(root)


def _next_entry(stream: BinaryIO) -> tarfile.TarInfo | None:
    entry = _header_of(stream)
    if entry is None or entry.type != tarfile.GNUTYPE_LONGNAME:
        return _plain(entry)
    if entry.size > MOST_PATH + 1:
        raise Damaged("it has a path that is too long")
    name = b"".join(_read(stream, entry.size + -entry.size % BLOCK))[: entry.size].rstrip(b"\0")
    long = _plain(_header_of(stream))
    if long is None:
        raise Damaged("it ends too early")
    long.name = os.fsdecode(name)
    return long


def _plain(entry: tarfile.TarInfo | None) -> tarfile.TarInfo | None:
    if entry is not None and entry.type not in (tarfile.REGTYPE, tarfile.DIRTYPE):
        raise Damaged(f"{entry.name!a} is neither a regular file nor a folder")
    return entry


def _header_of(stream: BinaryIO) -> tarfile.TarInfo | None:
    block = b"".join(_read(stream, BLOCK))
    if block == b"\0" * BLOCK:
        return None
    entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    if entry.size < 0:
        raise Damaged("it has a size below nothing")
    return entry


def _safe_path(name: str) -> str:
    parts = name.rstrip("/").split("/")
    if len(parts) > MOST_DEPTH + 1 or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise Damaged(f"{name!a} leads out of the base backup")
    return "/".join(parts)


def _read(stream: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left > 0:
        chunk = stream.read(min(left, 1 << 20))
        if not chunk:
            raise Damaged("it ends too early")
        left -= len(chunk)
        yield chunk
