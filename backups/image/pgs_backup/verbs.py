"""The JSON verbs: each gives one document, which backups/client.ts reads."""

import os
import re
import shutil
import sys
import time

from . import barman_command, base, catalog, layout, server, wal
from .notes import Notes, read_bounded


class Context:
    def __init__(self, tenant):
        self.tenant = layout.check_tenant(tenant)
        self.folders = layout.Folders(layout.barman_name(tenant))
        self.notes = Notes()
        self.retention = self.notes.retention()


def status(context):
    folders, notes = context.folders, context.notes
    newest = catalog.newest(catalog.backups(folders))
    receiving = wal.is_receiving(folders)
    return {
        "since": modified(os.path.join(folders.home, "identity.json")),
        "base": newest.begin if newest else 0,
        "due": notes.is_due(),
        "wal": newest_wal(folders),
        "behind": server.bytes_behind() if receiving and server.listens() else None,
        "size": base.allocated(folders.home),
        "retired": notes.retired(),
        "problem": problem(),
        "aside": [aside_status(name) for name in asides(folders.name)],
    }


def aside_status(name):
    folders = layout.Folders(name)
    newest = catalog.newest(catalog.backups(folders))
    return {
        "name": name[len("tenant-") :],
        "base": newest.begin if newest else 0,
        "size": base.allocated(folders.home),
        "retired": Notes(folders.home).retired(),
    }


def asides(own):
    """The backups of data that the tenant had before; a stream may have made more folders than can be told."""
    return [name for name in layout.names_in(layout.HOME) if is_aside(own, name)][:100]


def problem():
    """What the supervisor says is wrong."""
    for kind in ("wal", "backup"):
        content = read_bounded(problem_path(kind), 4096)
        if content:
            return server.plain(content, 500)
    return None


def problem_path(kind):
    return os.path.join(layout.SCRATCH, f"problem-{kind}")


def modified(path):
    """In seconds since 1970; 0 when it is missing."""
    try:
        return max(0, int(os.lstat(path).st_mtime))
    except OSError:
        return 0


def newest_wal(folders):
    """When WAL was last received."""
    names = [*layout.segments_in(folders.streaming), *layout.partials_in(folders.streaming)]
    found = [modified(os.path.join(folders.streaming, name)) for name in names]
    logs = [name for name in layout.names_in(folders.wals) if re.match(r"[0-9A-F]{16}\Z", name)]
    for log in logs[-1:]:
        filed = layout.segments_in(os.path.join(folders.wals, log))
        found += [modified(os.path.join(folders.wals, log, name)) for name in filed[-1:]]
    return max(found, default=0)


def list_sets(context):
    own = context.folders.name
    names = [name for name in layout.names_in(layout.HOME) if is_aside(own, name)]
    sets = [{"name": context.tenant, "retired": context.notes.retired(), "backups": records(context.folders)}]
    for name in names[:999]:
        folders = layout.Folders(name)
        retired = Notes(folders.home).retired()
        sets.append({"name": name[len("tenant-") :], "retired": retired, "backups": records(folders)})
    return {"sets": sets}


def is_aside(own, name):
    return re.match(re.escape(own) + r"-\d{1,20}(-\d{1,4})?\Z", name) is not None


def records(folders):
    return [backup.as_json() for backup in catalog.backups(folders)]


def backup(context):
    return {"id": base.back_up(context.folders, context.notes, context.retention)}


def archive(context, mark=False):
    folders = context.folders
    # A server that shuts down sends all that it wrote, and then ends.
    end = time.monotonic() + 60
    while not server.listens() and wal.is_receiving(folders):
        if time.monotonic() > end:
            raise layout.Failure("the server is gone, and its WAL is still being received")
        time.sleep(0.1)
    if mark and wal.is_receiving(folders):
        wal.mark(folders)
    barman_command.prepare(folders.name, context.retention)
    wal.file_all(folders, context.retention)
    return {}


def retire(context, retention):
    folders = context.folders
    if server.listens() and wal.is_receiving(folders):
        try:
            wal.mark(folders)
        except layout.Failure as failure:
            print(f"retire: {failure}", file=sys.stderr)
    with wal.receiving_paused(folders):
        context.notes.note_retired(retention)
        if os.path.exists(folders.streaming):
            barman_command.prepare(folders.name, context.retention)
            wal.file_all(folders, context.retention)
        if server.listens():
            # It would hold WAL back for ever.
            server.ask(
                "SELECT pg_catalog.count(pg_catalog.pg_drop_replication_slot(slot_name))"
                f" FROM pg_catalog.pg_replication_slots WHERE slot_name = '{layout.SLOT}'"
            )
    return {}


def adopt(context, system, volume):
    if not re.match(r"\d{1,20}\Z", system) or not re.match(r"[0-9a-f-]{36}\Z", volume):
        raise layout.Failure("not the identity of data")
    with wal.receiving_paused(context.folders):
        aside = wal.adopt(context.folders, context.notes, system, volume, context.retention)
    return {"aside": aside}


def adopt_timeline(context, timeline):
    history = sys.stdin.read(1 << 20)
    with wal.receiving_paused(context.folders):
        wal.adopt_timeline(context.folders, context.notes, timeline, history, context.retention)
    return {}


def delete_expired(context):
    deleted = []
    for name in layout.names_in(layout.HOME):
        if name.startswith(".deleted-"):
            shutil.rmtree(os.path.join(layout.HOME, name), ignore_errors=True)
        if not is_aside(context.folders.name, name):
            continue
        home = os.path.join(layout.HOME, name)
        retired = Notes(home).retired()
        if retired and retired["at"] + retired["retention"] * catalog.DAY < time.time():
            # In one step: what is half deleted is not to be restored.
            hidden = os.path.join(layout.HOME, ".deleted-" + name)
            os.rename(home, hidden)
            shutil.rmtree(hidden, ignore_errors=True)
            deleted.append(name[len("tenant-") :])
    return {"deleted": deleted}


def barman(context, name, arguments):
    """Barman's own command on one of the sets, for a restore; it is no JSON verb, and does not return."""
    if name != context.tenant and not is_aside(context.folders.name, layout.barman_name(name)):
        raise layout.Failure("not one of this tenant's backups")
    barman_command.prepare(layout.barman_name(name), context.retention)
    barman_command.main(arguments)
