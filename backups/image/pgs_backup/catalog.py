"""Barman's records of base backups, read without Barman, which takes half a second of a processor to start."""

import calendar
import os
import re
import time
from datetime import datetime

from .notes import read_bounded

# A full base backup of fewer bytes is as good as made: incremental ones would save nothing.
WORTH_SAVING = 256 << 20
DAY = 86400

_ID = re.compile(r"\d{8}T\d{6}\Z")
_RECORD = re.compile(r"(\d{8}T\d{6})-backup\.info\Z")


class Backup:
    """One base backup, as recorded."""

    def __init__(self, backup_id, fields):
        self.id = backup_id
        self.usable = fields.get("status") in ("DONE", "WAITING_FOR_WALS")
        self.waiting = fields.get("status") == "WAITING_FOR_WALS"
        self.begin = begun_at(backup_id)
        self.end = seconds(fields.get("end_time", "")) if self.usable else 0
        self.version = number(fields.get("version")) // 10_000
        self.size = number(fields.get("size"))
        parent = fields.get("parent_backup_id", "")
        self.parent = parent if _ID.match(parent) else None
        self.summarized = fields.get("summarize_wal") == "on"
        self.end_wal = fields.get("end_wal", "")

    def as_json(self):
        return {
            "id": self.id,
            "begin": self.begin,
            "end": self.end,
            "version": self.version,
            "size": self.size,
            "usable": self.usable,
            "parent": self.parent,
        }


def backups(folders):
    """All that have a record, the oldest first."""
    found = []
    try:
        names = sorted(os.listdir(folders.meta))
    except OSError:
        return found
    for name in names[-10_000:]:
        match = _RECORD.match(name)
        content = read_bounded(os.path.join(folders.meta, name)) if match else None
        if content is not None:
            found.append(Backup(match[1], parse_record(content.decode(errors="replace"))))
    return found


def parse_record(text):
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def newest(found, full=False):
    """The newest usable one; with `full` the newest that is no incremental one; None without any."""
    usable = [backup for backup in found if backup.usable and not (full and backup.parent)]
    return usable[-1] if usable else None


def begun_at(backup_id):
    try:
        return calendar.timegm(time.strptime(backup_id, "%Y%m%dT%H%M%S"))
    except ValueError:
        return 0


def seconds(text):
    try:
        return max(0, int(datetime.fromisoformat(text).timestamp()))
    except (ValueError, OverflowError):
        return 0


def number(text):
    return int(text) if text and re.match(r"\d{1,15}\Z", text) else 0


def last_due(schedule, now):
    """When the daily base backup was last to be made; `schedule` is HH:MM, UTC."""
    hour, minute = schedule.split(":")
    due = now - now % DAY + int(hour) * 3600 + int(minute) * 60
    return due if due <= now else due - DAY


def has_to_be_full(found, retention, now):
    """Whether the next base backup is a full one.

    Otherwise it is what differs from the last full one, which is made sooner and takes less room. A restore then
    combines the two, and no more than two.
    """
    full = newest(found, full=True)
    # None yet; PostgreSQL 16, or a server that notes no changed blocks.
    if full is None or not full.summarized:
        return True
    # What retention lets go are full ones with all that came from them.
    age = now - full.begin
    if age > 7 * DAY or age * 2 > retention * DAY:
        return True
    if full.size < WORTH_SAVING:
        return True
    latest = newest(found)
    return latest is not full and latest.size * 2 > full.size
