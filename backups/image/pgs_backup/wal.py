"""The WAL that was received: what is to be filed, where to go on, and what is missing."""

import fcntl
import os
import re
import signal
import time
from contextlib import contextmanager

from . import barman_command, catalog, layout, server
from .notes import Notes, read_bounded, remove, replace_file


class Busy(layout.Failure):
    pass


class Lock:
    """A lock as Barman takes it: it reads the holder's process from the file."""

    def __init__(self, path):
        self.path = path
        self.fd = None

    def try_acquire(self):
        fd = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self.fd = fd
        return True

    def acquire(self, seconds):
        end = time.monotonic() + seconds
        while not self.try_acquire():
            if time.monotonic() > end:
                raise Busy(f"another process holds {os.path.basename(self.path)}")
            time.sleep(0.02)

    def release(self):
        if self.fd is not None:
            # A process that was started meanwhile has the same file open, and shares the lock.
            fcntl.flock(self.fd, fcntl.LOCK_UN)
            os.close(self.fd)
            self.fd = None

    def is_held(self):
        """By somebody."""
        if self.try_acquire():
            self.release()
            return False
        return True


@contextmanager
def held(path, seconds):
    lock = Lock(path)
    lock.acquire(seconds)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def receiving_paused(folders):
    """Nothing is received meanwhile: the supervisor is asked to stop, and tries again later."""
    lock = Lock(folders.lock("receive-wal"))
    asked = 0.0
    end = time.monotonic() + 60
    while not lock.try_acquire():
        now = time.monotonic()
        if now > end:
            raise Busy("the supervisor does not stop receiving WAL")
        if now - asked > 2:
            asked = now
            notify(folders)
        time.sleep(0.02)
    try:
        yield
    finally:
        lock.release()


def notify(folders):
    """Tells the supervisor, where one runs, to stop receiving and to look again."""
    content = read_bounded(folders.lock("receive-wal"), 16) or b""
    if re.match(rb"[1-9]\d{0,6}\n\Z", content):
        try:
            os.kill(int(content), signal.SIGUSR1)
        except (ProcessLookupError, PermissionError):
            pass


def is_received(folders, segment):
    return os.path.exists(os.path.join(folders.streaming, segment)) or os.path.exists(folders.filed(segment))


def is_receiving(folders):
    return Lock(folders.lock("receive-wal")).is_held()


def file_all(folders, retention):
    """Files what is complete, and completes the records of base backups that wait for it. Barman is prepared."""
    with held(folders.lock("archive-wal"), 60):
        pass  # Barman returns at once, without an error, while another is at it.
    if not barman_command.run(["archive-wal", folders.name], 3600):
        raise layout.Failure("Barman cannot archive WAL")
    for backup in catalog.backups(folders):
        if backup.waiting and is_received(folders, backup.end_wal):
            barman_command.run(["check-backup", folders.name, backup.id], 600)


def mark(folders, seconds=20):
    """A commit now, and the rest of its segment: a restore as of any time before it finds it, unless WAL is missing."""
    # Two at once: one would switch right after the other, and wait for a segment that never is complete.
    with held(folders.lock("mark"), 120):
        server.ask("SELECT pg_catalog.txid_current()")
        segment = server.ask("SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_switch_wal())")
        if not layout.is_segment(segment):
            raise layout.Failure("the server's answer is not understood")
        wait_for(lambda: is_received(folders, segment), seconds)
        # Without a next one that is begun, Barman leaves it where it is.
        server.ask("SELECT pg_catalog.txid_current()")
        wait_for(lambda: layout.partials_in(folders.streaming), seconds)


def wait_for(arrived, seconds):
    end = time.monotonic() + seconds
    while not arrived():
        if time.monotonic() > end:
            raise layout.Failure("the server's WAL does not arrive")
        time.sleep(0.05)


# --- before WAL is received ---


def prepare(folders, notes, retention):
    """Makes all ready for pg_receivewal. The lock is held. @returns lines for the log"""
    if layout.room() <= 0:
        raise layout.Failure("the disk is full: no WAL is received")
    said = []
    state = server.state()
    aside = adopt(folders, notes, state.system, server.volume_id(), retention)
    if aside:
        said.append(f"the backups of other data are kept as {aside}")
    os.makedirs(folders.streaming, mode=0o700, exist_ok=True)
    if state.slot_status == "lost":
        receive_command(["--drop-slot"])
    if not state.has_slot or state.slot_status == "lost":
        receive_command(["--create-slot", "--if-not-exists"])
        state = server.state()
    gap = begin_after_gap(folders, notes, state.first)
    if gap:
        said.append(gap)
        barman_command.prepare(folders.name, retention)
        file_all(folders, retention)
    truncate_partial(folders)
    return said


def receive_command(options, deadline=30):
    command = ["pg_receivewal", "--no-password", "--dbname", server.conninfo(), "--slot", layout.SLOT]
    answer = server.run_bounded([*command, *options], server.environment(), deadline)
    if answer is None or answer[0] != 0:
        reason = server.plain(answer[2]) if answer else "no answer in time"
        raise layout.Failure(f"the replication slot: {reason}")


def begin_after_gap(folders, notes, first):
    """After a long silence the server may have dropped what comes next: the slot holds WAL back up to a limit only.

    Then nothing more would ever be received. What there is stays, and the rest begins with a new base backup; a
    restore sees the gap between the two.
    """
    partial = (layout.partials_in(folders.streaming) or [None])[-1]
    complete = (layout.segments_in(folders.streaming) or [None])[-1]
    if partial:
        last = partial.removesuffix(".partial")
    elif complete:
        last = layout.next_segment(complete)
    else:
        return None
    # Only where the two do not overlap: this segment is never received again.
    if not layout.is_segment(first) or first[:8] != last[:8] or first <= last:
        return None
    notes.note_due()
    if partial:
        path = os.path.join(folders.streaming, partial)
        if os.path.getsize(path) == layout.SEGMENT:
            os.rename(path, path.removesuffix(".partial"))
        else:
            os.unlink(path)
    # An empty one is where pg_receivewal goes on from.
    touch(os.path.join(folders.streaming, first + ".partial"))
    return f"WAL between {last} and {first} was never received; it goes on with a new base backup"


def truncate_partial(folders):
    """pg_receivewal fills a segment up before it writes to it; on a full disk it leaves a part, and refuses that."""
    for name in layout.partials_in(folders.streaming)[-1:]:
        path = os.path.join(folders.streaming, name)
        if os.path.getsize(path) not in (0, layout.SEGMENT):
            os.truncate(path, 0)


def touch(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


# --- which data it is ---


def adopt(folders, notes, system, volume, retention):
    """Backups may be those of other data: of a volume that is gone. They are kept as TENANT-SYSTEM, and it begins with
    a base backup. The system's identifier alone does not tell: it is the same for all that was restored from one
    tenant. https://www.postgresql.org/docs/18/protocol-replication.html

    @returns the name by which the others can be restored; None where there are none
    """
    known = notes.identity()
    if known is None:
        notes.note_identity(system, volume)
        return None
    same_volume = not known["volume"] or not volume or known["volume"] == volume
    if known["system"] == system and same_volume:
        if volume and not known["volume"]:
            notes.note_identity(system, volume)
        return None
    aside = set_aside(folders, notes, known["system"], retention)
    notes.note_due()
    notes.note_identity(system, volume)
    return aside


def set_aside(folders, notes, system, retention):
    if not os.path.exists(folders.home):
        return None
    suffix = system if re.match(r"\d{1,20}\Z", system) else "0"
    name = f"{folders.name}-{suffix}"
    count = 1
    while os.path.lexists(os.path.join(notes.home, name)):
        count += 1
        name = f"{folders.name}-{suffix}-{count}"
    # A run that was cut off goes on: the folder is renamed last.
    for old in layout.names_in(folders.wals):
        if re.match(r"tenant-[a-z0-9-]+-xlog\.db\Z", old):
            os.rename(os.path.join(folders.wals, old), os.path.join(folders.wals, f"{name}-xlog.db"))
    Notes(folders.home).note_retired(retention)
    os.rename(folders.home, os.path.join(notes.home, name))
    return name[len("tenant-") :]


def adopt_timeline(folders, notes, timeline, history, retention):
    """Of data that was restored from its own backups, before its server starts: what was received of the timeline that
    it left is complete, and the new one is received from where it begins."""
    if not re.match(r"[0-9A-F]{8}\Z", timeline):
        raise layout.Failure("not a timeline")
    positions = re.findall(r"^\d{1,10}\t([0-9A-F]{1,8}/[0-9A-F]{1,8})\t", history, re.MULTILINE)
    if not positions:
        raise layout.Failure("not a history of a timeline")
    if not os.path.exists(folders.home):
        return
    os.makedirs(folders.streaming, mode=0o700, exist_ok=True)
    received = [*layout.names_in(folders.streaming), *layout.names_in(folders.wals)]
    # Done before, and the tenant may have been at work since.
    if any(name.startswith(timeline) and not name.endswith(".history") for name in received):
        return
    for partial in layout.partials_in(folders.streaming):
        path = os.path.join(folders.streaming, partial)
        if os.path.getsize(path):
            os.rename(path, path.removesuffix(".partial"))
        else:
            remove(path)
    # Its time says from when on the timeline was the tenant's.
    replace_file(os.path.join(folders.streaming, timeline + ".history"), history.encode())
    notes.note_due()
    # The data may have been restored into another volume: the next one is its own.
    known = notes.identity()
    if known:
        notes.note_identity(known["system"], "")
    # An empty one is where pg_receivewal goes on from. It comes last: with it, all of this was done.
    touch(os.path.join(folders.streaming, layout.segment_at(timeline, positions[-1]) + ".partial"))
    barman_command.prepare(folders.name, retention)
    file_all(folders, retention)
