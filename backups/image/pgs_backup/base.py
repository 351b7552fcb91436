"""Base backups: one is made, kept within bounds, and what failed is removed."""

import os
import shutil
import time

from . import barman_command, catalog, layout, server, wal
from .notes import Notes, remove

# A base backup of 2.5 TB at the limit of its bandwidth.
DEADLINE = 24 * 3600


def back_up(folders, notes, retention, full=False):
    """Makes a base backup now. @returns its id"""
    lock = wal.Lock(os.path.join(layout.SCRATCH, ".base-backup.lock"))
    if not lock.try_acquire():
        raise wal.Busy("a base backup is being made")
    try:
        return back_up_locked(folders, notes, retention, full)
    finally:
        lock.release()


def back_up_locked(folders, notes, retention, full):
    wait_for_stream(folders)
    demand_room()
    barman_command.prepare(folders.name, retention, server.database())
    remove_failed(folders)
    found = catalog.backups(folders)
    known = {backup.id for backup in found}
    # Before the first one, Barman wants to see that WAL arrives.
    if not catalog.newest(found):
        wal.mark(folders)
    full = full or notes.is_due() or catalog.has_to_be_full(found, retention, time.time())
    options = [] if full else ["--incremental", catalog.newest(found, full=True).id]
    try:
        succeeded = barman_command.run(["backup", *options, folders.name], DEADLINE, Bounds().exceeded)
    except layout.Failure:
        remove_failed(folders)
        remove_strangers(folders)
        raise
    made = [backup for backup in catalog.backups(folders) if backup.usable and backup.id not in known]
    if not succeeded or not made:
        remove_failed(folders)
        raise layout.Failure("Barman cannot make a base backup: see the container's log")
    notes.clear_due()
    complete(folders, made[-1], retention)
    if not barman_command.enforce_retention(folders.name):
        raise layout.Failure("Barman cannot enforce the retention: see the container's log")
    return made[-1].id


def wait_for_stream(folders, seconds=20):
    """By what the server says: when it was just started, Barman refuses a base backup until its slot is in use."""
    end = time.monotonic() + seconds
    while True:
        if wal.is_receiving(folders) and server.state().slot_active:
            return
        if time.monotonic() > end:
            raise layout.Failure("no WAL is received")
        time.sleep(0.2)


def complete(folders, backup, retention, seconds=30):
    """Files the segment that the base backup ends with, when it has arrived."""
    if not backup.waiting:
        return
    end = time.monotonic() + seconds
    while not wal.is_received(folders, backup.end_wal) and time.monotonic() < end:
        time.sleep(0.05)
    wal.file_all(folders, retention)


def demand_room():
    """A full disk would stop the other tenants of the host."""
    free, needed = layout.room(), allocated(layout.DATA)
    if free < needed:
        raise layout.Failure(
            f"a base backup takes up to {needed >> 20} MiB on the disk, and {free >> 20} MiB are free"
        )


class Bounds:
    """The server may send without end, to any folder. What it sends is about what its volume holds, which is measured
    here. WAL does not count: a busy tenant may write much of it meanwhile."""

    def __init__(self):
        self.before = allocated(layout.HOME, without_wal=True)
        self.most = 2 * allocated(layout.DATA) + (256 << 20)
        self.next = 0.0

    def exceeded(self):
        """@returns why it is to be ended"""
        if layout.room() <= 0:
            return "the disk is full: the base backup was ended"
        begun = time.monotonic()
        if begun >= self.next:
            size = allocated(layout.HOME, without_wal=True) - self.before
            self.next = begun + max(5, 20 * (time.monotonic() - begun))
            if size > self.most:
                return (
                    "the server sends more than twice what its data volume holds: the base backup was ended"
                )
        return None


def remove_failed(folders):
    """One that was cut off or failed restores nothing, and would take room for ever. Barman is prepared."""
    for backup in catalog.backups(folders):
        if not backup.usable:
            # First what fills the disk: Barman writes before it deletes.
            shutil.rmtree(os.path.join(folders.base, backup.id), ignore_errors=True)
            barman_command.run(["delete", folders.name, backup.id], 600)


def remove_strangers(folders):
    """What a stream that was ended wrote beside its base backup."""
    records = {backup.id for backup in catalog.backups(folders)}
    kept = {folders.name, *(f"{name}.json" for name in Notes.NAMES)}
    strangers = [os.path.join(layout.HOME, name) for name in layout.names_in(layout.HOME)
                 if name not in kept and not name.startswith(folders.name + "-")]  # fmt: skip
    strangers += [
        os.path.join(folders.base, name) for name in layout.names_in(folders.base) if name not in records
    ]
    for path in strangers:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            remove(path)


def allocated(folder, without_wal=False):
    """Bytes on the disk below a folder; no link is followed."""
    total = 0
    pending = [folder]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                    if not (without_wal and is_wal(entry.name, status)):
                        total += status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                except OSError:
                    continue
    return total


def is_wal(name, status):
    return (layout.is_segment(name) or layout.is_partial(name)) and status.st_size <= layout.SEGMENT
