"""The container's first process: keeps WAL arriving, and base backups coming.

It sleeps until something happens: a segment is complete, a process ends, a time has come. What needs Barman, the server
or more memory than a loop is done by a child that is forked, and gone afterwards.
"""

import os
import re
import select
import signal
import sys
import time

from . import catalog, layout
from .notes import Notes, remove
from .wal import Lock

FIRST_PAUSE = 0.25
# Seconds between two looks for a server that is gone: a look costs some microseconds, and starts nothing.
ABSENT = 2
# At most, between two tries with a server that is there and does not let us receive.
REFUSED = 60
# A base backup that failed is tried again after so many seconds.
RETRY = 120
# Barman takes half a second to start: under load, several segments are filed at once.
ARCHIVE_PAUSE = 5
# Restarts of the server that may cut base backups off, one after another, before the pause counts.
INTERRUPTIONS = 3
# How often the server is told what was received: `./pgs backups` is so old at the most.
TOLD = 2
LINES_A_MINUTE = 60
BARMAN_ERROR = re.compile(r"\S+ \S+ \[\d+\] [\w.]+ (?:ERROR|CRITICAL): (.*)")


class Child:
    def __init__(self, kind, pid, output):
        self.kind = kind
        self.pid = pid
        # What it writes, and the last line of it.
        self.output = output
        self.rest = b""
        self.line = ""
        # The last line of Barman's that is an error: it says more than that it has failed.
        self.error = ""
        self.started = time.monotonic()

    def reason(self):
        return self.error or self.line or f"{self.kind} failed"


class Supervisor:
    def __init__(self, tenant, schedule, retention):
        layout.check_tenant(tenant)
        if not re.match(r"([01]\d|2[0-3]):[0-5]\d\Z", schedule):
            raise layout.Failure("--schedule is HH:MM, UTC")
        self.schedule = schedule
        self.retention = retention
        self.folders = layout.Folders(layout.barman_name(tenant))
        self.notes = Notes()
        self.lock = Lock(self.folders.lock("receive-wal"))
        self.children = {}
        self.by_kind = {}
        self.poll = select.poll()
        self.stopping = False
        # By time.monotonic().
        self.next_connect = 0.0
        self.held_until = 0.0
        self.pause = FIRST_PAUSE
        self.socket = None
        self.next_archive = 0.0
        self.segments_wait = True
        self.next_backup = 0.0
        self.next_look = 0.0
        self.backup_failed = False
        self.interruptions = 0
        self.stream_ended = False
        self.lines_left = LINES_A_MINUTE
        self.lines_since = time.monotonic()

    # --- the loop ---

    def run(self):
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self.on_signal)
        self.poll.register(wake_read, select.POLLIN)
        self.wake_read, self.wake_write = wake_read, wake_write
        self.begin()
        while not self.stopping:
            self.reap()
            timeout = self.step(time.monotonic())
            for fd, _ in self.poll.poll(timeout * 1000):
                if fd == wake_read:
                    os.read(wake_read, 4096)
                else:
                    self.read_output(fd)
        self.stop()

    def on_signal(self, number, _frame):
        if number in (signal.SIGTERM, signal.SIGINT):
            self.stopping = True
        elif number == signal.SIGUSR1:
            # A verb wants WAL to stand still for a moment.
            self.held_until = time.monotonic() + 1
            self.next_look = 0.0
            self.interrupt("receive")

    def begin(self):
        for kind in ("wal", "backup"):
            self.note_problem(kind, None)
        self.notes.note_retention(self.retention)
        if self.notes.retired():
            # The tenant is back. Nobody received what was written meanwhile.
            self.notes.note_due()
            self.notes.clear_retired()
        self.log("waits for the server")

    def step(self, now):
        """Starts what is to be started. @returns for how many seconds there is nothing to do"""
        wakes = [now + 60]
        receiving = "receive" in self.by_kind
        if not receiving and "prepare" not in self.by_kind:
            if now >= self.next_connect:
                self.connect(now)
            wakes.append(self.next_connect)
        if self.segments_wait and "archive" not in self.by_kind:
            if now >= self.next_archive:
                self.archive()
            else:
                wakes.append(self.next_archive)
        if receiving and "backup" not in self.by_kind:
            if now >= max(self.next_backup, self.next_look):
                self.next_look = now + 60
                if self.is_due():
                    self.fork("backup", self.make_backup)
            wakes.append(max(self.next_backup, self.next_look))
        return max(0.0, min(wakes) - time.monotonic())

    # --- WAL ---

    def connect(self, now):
        try:
            status = os.stat(layout.SOCKET)
            found = (status.st_ino, status.st_ctime_ns)
        except OSError:
            found = None
        if found != self.socket:
            # Another server than the one that refused.
            self.socket = found
            self.pause = FIRST_PAUSE
        if not found or now < self.held_until or self.notes.retired():
            self.wait(now, ABSENT)
            return
        self.wait(now, REFUSED)
        if self.lock.try_acquire():
            self.fork("prepare", self.prepare)

    def wait(self, now, most):
        self.pause = min(self.pause, most)
        self.next_connect = now + self.pause
        self.pause = min(self.pause * 2, most)

    def prepare(self):
        from . import server, wal

        if not server.listens():
            raise layout.Failure("nothing listens at the server's socket")
        for line in wal.prepare(self.folders, self.notes, self.retention):
            print(line, file=sys.stderr)

    def receive(self):
        from . import server

        conninfo = f"{server.conninfo()} application_name={layout.SLOT}"
        command = [
            "pg_receivewal", "--no-password", "--no-loop", "--verbose", "--dbname", conninfo,
            "--directory", self.folders.streaming, "--slot", layout.SLOT, "--status-interval", str(TOLD),
        ]  # fmt: skip
        read, write = os.pipe2(os.O_CLOEXEC)
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, write, 1),
            (os.POSIX_SPAWN_DUP2, write, 2),
        ]
        pid = os.posix_spawnp(
            command[0], command, server.environment(), file_actions=actions, setsigdef=[signal.SIGINT]
        )
        os.close(write)
        self.watch(Child("receive", pid, read))
        self.next_look = 0.0

    def archive(self):
        self.segments_wait = False
        # Without a partial one, Barman leaves the last where it is.
        waiting = len(layout.segments_in(self.folders.streaming))
        if waiting > (0 if layout.partials_in(self.folders.streaming) else 1):
            self.fork("archive", self.file_all)

    def file_all(self):
        from . import barman_command, wal

        barman_command.prepare(self.folders.name, self.retention)
        wal.file_all(self.folders, self.retention)

    # --- base backups ---

    def is_due(self):
        if self.notes.is_due():
            return True
        newest = catalog.newest(catalog.backups(self.folders))
        return newest is None or newest.begin < catalog.last_due(self.schedule, int(time.time()))

    def make_backup(self):
        from . import base

        made = base.back_up(self.folders, self.notes, self.retention, full=self.backup_failed)
        print(f"base backup {made} is complete", file=sys.stderr)

    def backup_ended(self, child, succeeded):
        now = time.monotonic()
        cut_off = self.stream_ended or "receive" not in self.by_kind
        if succeeded:
            self.interruptions = 0
        elif cut_off and self.interruptions < INTERRUPTIONS:
            # The server was restarted: that says nothing about the next one.
            self.interruptions += 1
        else:
            self.next_backup = now + RETRY
        self.backup_failed = not succeeded
        self.next_look = 0.0
        self.segments_wait = True
        self.note_problem("backup", None if succeeded else child.reason())

    # --- processes ---

    def fork(self, kind, work):
        read, write = os.pipe2(os.O_CLOEXEC)
        if kind == "backup":
            self.stream_ended = False
        pid = os.fork()
        if pid:
            os.close(write)
            self.watch(Child(kind, pid, read))
            return
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            os.setpgid(0, 0)
            null = os.open("/dev/null", os.O_RDONLY)
            for fd, number in ((null, 0), (write, 1), (write, 2)):
                os.dup2(fd, number)
            work()
            code = 0
        except (layout.Failure, OSError) as error:
            print(error, file=sys.stderr)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def watch(self, child):
        os.set_blocking(child.output, False)
        self.children[child.pid] = child
        self.by_kind[child.kind] = child
        self.poll.register(child.output, select.POLLIN)

    def unwatch(self, child):
        if child.output is not None:
            self.poll.unregister(child.output)
            os.close(child.output)
            child.output = None

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self.children.pop(pid, None)
            # One that somebody else left to the first process.
            if child is None:
                continue
            self.read_output(child.output, child)
            self.unwatch(child)
            del self.by_kind[child.kind]
            self.ended(child, os.waitstatus_to_exitcode(status) == 0)

    def ended(self, child, succeeded):
        now = time.monotonic()
        if child.kind == "prepare":
            if succeeded and not self.stopping and now >= self.held_until:
                self.receive()
                return
            self.lock.release()
            self.note_problem("wal", None if succeeded else child.reason())
        elif child.kind == "receive":
            self.lock.release()
            self.stream_ended = True
            self.segments_wait = True
            if now - child.started > REFUSED:
                self.pause = FIRST_PAUSE
            self.next_connect = now + self.pause
            self.note_problem("wal", child.reason())
            self.log("WAL is no longer received")
        elif child.kind == "archive":
            self.next_archive = now + ARCHIVE_PAUSE
            if not succeeded:
                self.next_archive = now + REFUSED
                self.segments_wait = True
        elif child.kind == "backup":
            self.backup_ended(child, succeeded)

    def interrupt(self, kind, number=signal.SIGINT):
        child = self.by_kind.get(kind)
        if child:
            try:
                os.kill(child.pid if kind == "receive" else -child.pid, number)
            except ProcessLookupError:
                pass

    def stop(self):
        """What is being received stays as it is; a base backup is cut off, and removed when the container is back."""
        self.interrupt("receive")
        for kind in ("prepare", "archive", "backup"):
            self.interrupt(kind, signal.SIGTERM)
        end = time.monotonic() + 8
        while self.by_kind and time.monotonic() < end:
            # One that waits until its words are read cannot end.
            for child in list(self.by_kind.values()):
                self.read_output(child.output, child)
            self.reap()
            time.sleep(0.05)

    # --- the log ---

    def read_output(self, fd, child=None):
        child = child or next((one for one in self.by_kind.values() if one.output == fd), None)
        if child is None or fd is None:
            return
        # One that writes without end must not keep the others, or the signal to stop, waiting.
        for _ in range(16):
            try:
                content = os.read(fd, 65536)
            except BlockingIOError:
                return
            if not content:
                self.unwatch(child)
                return
            lines = (child.rest + content).split(b"\n")
            child.rest = lines.pop()[-4096:]
            for line in lines:
                self.on_line(child, line[:4096])

    def on_line(self, child, line):
        text = printable(line)
        if child.kind == "receive":
            text = text.removeprefix("pg_receivewal: ")
            if text.startswith("finished segment"):
                self.segments_wait = True
                if layout.room() <= 0:
                    self.interrupt("receive")
                return
            if text.startswith("starting log streaming"):
                self.note_problem("wal", None)
                self.log("WAL is received")
                return
        if text:
            child.line = text
            error = BARMAN_ERROR.match(text)
            if error:
                text = child.error = error[1]
            self.log(f"{child.kind}: {text}")

    def log(self, text):
        """Into the container's log, which a server that errs without end must not fill."""
        now = time.monotonic()
        if now - self.lines_since > 60:
            self.lines_since, self.lines_left = now, LINES_A_MINUTE
        self.lines_left -= 1
        if self.lines_left > 0:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
            os.write(2, f"{stamp} {text}\n".encode())

    def note_problem(self, kind, text):
        path = os.path.join(layout.SCRATCH, f"problem-{kind}")
        if not text:
            remove(path)
            return
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.write(fd, text.encode()[:1000])
        os.close(fd)


def printable(line):
    text = "".join(c if c.isprintable() else " " for c in line.decode(errors="replace"))
    return " ".join(text.split())[:500]
