"""Questions to the tenant's server. Its superuser is the tenant, so every answer is data, bounded in size and time."""

import json
import os
import re
import select
import signal
import socket
import time

from . import layout
from .notes import read_bounded

# The first is the tenant's to drop. Without it the other takes sessions; they are short, as it is a template.
DATABASES = ("postgres", "template1")

# How psql ends when it gets no session. https://www.postgresql.org/docs/18/app-psql.html#APP-PSQL-EXIT-STATUS
NO_SESSION = 2

# Settings of a role or a database do not count: those of the session come later.
_PINNED = {
    "search_path": "pg_catalog",
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "default_transaction_read_only": "off",
    "client_min_messages": "error",
    # Whatever a role or a database would load in this session, or fail to find.
    "session_preload_libraries": "",
    "local_preload_libraries": "",
}


def conninfo(database=DATABASES[0]):
    return f"host={layout.SOCKETS} user=postgres dbname={database} connect_timeout=10"


def environment():
    """All that a command gets, so that nothing in the volume counts as somebody's configuration."""
    pinned = dict(_PINNED)
    # A login event trigger would run in this session.
    if newest_major() >= 17:
        pinned["event_triggers"] = "off"
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "HOME": "/nonexistent",
        "PGPASSFILE": "/nonexistent/pgpass",
        "PGSERVICEFILE": "/nonexistent/pg_service.conf",
        "PGSYSCONFDIR": "/nonexistent",
        "PGSSLMODE": "disable",
        "PGGSSENCMODE": "disable",
        "PGOPTIONS": " ".join(f"-c {name}={value}" for name, value in pinned.items()),
    }


def newest_major():
    """PostgreSQL's major version by the data directories; 0 when there is none."""
    found = [0]
    for name in layout.names_in(layout.DATA):
        if re.match(r"\d{2}\Z", name):
            content = read_bounded(os.path.join(layout.DATA, name, "docker", "PG_VERSION"), 16) or b""
            if re.match(rb"\d{2}\s*\Z", content):
                found.append(int(content))
    return max(found)


def volume_id():
    """What names the data volume, beside the data; "" when nothing does."""
    content = (read_bounded(os.path.join(layout.DATA, ".volume-id"), 64) or b"").strip()
    return content.decode() if re.match(rb"[0-9a-f-]{36}\Z", content) else ""


def listens():
    """Whether something listens at the socket: asked without a process."""
    if not os.path.exists(layout.SOCKET):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        try:
            connection.connect(layout.SOCKET)
            return True
        except OSError:
            return False


def run_bounded(command, env, deadline, limit=64 << 10):
    """Runs a command. @returns (exit code, stdout, stderr), or None when it takes too long or prints too much."""
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, out_write, 1),
        (os.POSIX_SPAWN_DUP2, err_write, 2),
    ]
    pid = os.posix_spawnp(
        command[0], command, env, file_actions=actions, setsigmask=[], setsigdef=[signal.SIGINT]
    )
    os.close(out_write)
    os.close(err_write)
    end = time.monotonic() + deadline
    content = {out_read: b"", err_read: b""}
    opened = [out_read, err_read]
    finished = False
    try:
        while opened:
            left = end - time.monotonic()
            ready = select.select(opened, [], [], max(0, left))[0]
            if not ready:
                return None
            for fd in ready:
                part = os.read(fd, 65536)
                content[fd] += part
                if not part:
                    opened.remove(fd)
            if sum(map(len, content.values())) > limit:
                return None
        finished = True
    finally:
        os.close(out_read)
        os.close(err_read)
        if not finished:
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), content[out_read], content[err_read]


def ask(question, deadline=20):
    """One text of one row. @raises layout.Failure"""
    end = time.monotonic() + deadline
    refused = None
    for database in DATABASES:
        command = [
            "psql", "-X", "--quiet", "--no-password", "--tuples-only", "--no-align",
            "--set", "ON_ERROR_STOP=1", "--dbname", conninfo(database), "--command", question,
        ]  # fmt: skip
        answer = run_bounded(command, environment(), end - time.monotonic())
        if answer is None:
            raise layout.Failure("the server does not answer in time")
        code, out, err = answer
        if code == 0:
            return out.decode(errors="replace").strip()
        refused = refused or plain(err)
        if code != NO_SESSION:
            break
    raise layout.Failure(f"the server does not answer: {refused}")


def database():
    """The one of DATABASES that takes sessions. @raises layout.Failure"""
    answer = ask("SELECT pg_catalog.current_database()")
    return answer if answer in DATABASES else DATABASES[0]


def ask_json(question, deadline=20):
    try:
        return json.loads(ask(question, deadline))
    except (ValueError, RecursionError):
        raise layout.Failure("the server's answer is not understood") from None


def plain(text, most=300):
    """Text for a log: one line, without control characters."""
    shown = "".join(c if c.isprintable() else " " for c in text.decode(errors="replace")).split()
    return " ".join(shown)[:most]


_STATE = f"""
SELECT pg_catalog.json_build_object(
  'system', (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
  'current', pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()),
  'slot', (SELECT pg_catalog.json_build_object(
      'status', coalesce(wal_status, 'unused'),
      'restart', pg_catalog.pg_walfile_name(restart_lsn),
      'active', active)
    FROM pg_catalog.pg_replication_slots WHERE slot_name = '{layout.SLOT}'))"""


class State:
    """What the server says of itself and of the slot."""

    def __init__(self, answer):
        if not isinstance(answer, dict):
            raise layout.Failure("the server's answer is not understood")
        slot = answer.get("slot")
        self.system = str(answer.get("system"))
        self.current = str(answer.get("current"))
        self.has_slot = isinstance(slot, dict)
        self.slot_status = str(slot.get("status")) if self.has_slot else ""
        self.slot_active = self.has_slot and slot.get("active") is True
        # A slot that was never used holds nothing: with it, what is written now comes first.
        self.first = str(slot.get("restart") or self.current) if self.has_slot else self.current
        if not re.match(r"\d{1,20}\Z", self.system) or not layout.is_segment(self.current):
            raise layout.Failure("the server's answer is not understood")


def state():
    return State(ask_json(_STATE))


def bytes_behind():
    """Bytes of WAL that the server has and the backup has not; None when it does not answer, or nothing is received."""
    question = f"""
      SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), write_lsn)::bigint
      FROM pg_catalog.pg_stat_replication WHERE application_name = '{layout.SLOT}' LIMIT 1"""
    try:
        answer = ask(question, deadline=5)
    except layout.Failure:
        return None
    return max(0, int(answer)) if re.match(r"-?\d{1,15}\Z", answer) else None
