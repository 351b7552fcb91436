"""The names that Barman gives to files, and those of the objects in the bucket.

Below s3://BUCKET/PATH/tenant-ID/ARCHIVE/, where ARCHIVE belongs to one line of backups on one host:
  base/BACKUP/BEGIN.BYTES.tar.lz4          a full base backup: the first WAL segment that it needs, and its size on a disk
  base/BACKUP/BEGIN.BYTES.PARENT.tar.lz4   one that is made on the base backup PARENT
  base/BACKUP/backup.info                  Barman's record of it; it comes last: without it, the copy is not complete
  wals/FOLDER/SEGMENT.lz4                  a WAL segment; SEGMENT.partial.lz4 while the server still fills it
  wals/TIMELINE.history.lz4                where a timeline begins
  timelines/TIMELINE                       when it began, in seconds since 1970
"""

import re
import secrets
from datetime import UTC, datetime
from typing import NamedTuple

# The product's servers have segments of this size, PostgreSQL's default.
SEGMENT_BYTES = 16 << 20

TENANT = re.compile(r"[a-z][a-z0-9-]*")
BACKUP = re.compile(r"\d{8}T\d{6}")
SEGMENT = re.compile(r"[0-9A-F]{24}")
PARTIAL = re.compile(r"([0-9A-F]{24})\.partial")
HISTORY = re.compile(r"([0-9A-F]{8})\.history")
WAL_FOLDER = re.compile(r"[0-9A-F]{16}")
RECORD = re.compile(r"(\d{8}T\d{6})-backup\.info")
# Within a base backup: the data, and a folder for each tablespace.
BASE_FOLDER = re.compile(r"data|\d{1,10}")
ARCHIVE = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")

BASE_OBJECT = re.compile(r"base/(\d{8}T\d{6})/([0-9A-F]{24})\.(\d{1,18})(?:\.(\d{8}T\d{6}))?\.tar\.lz4")
RECORD_OBJECT = re.compile(r"base/(\d{8}T\d{6})/backup\.info")
WAL_OBJECT = re.compile(
    r"wals/(?:[0-9A-F]{16}/)?([0-9A-F]{24}|[0-9A-F]{24}\.partial|[0-9A-F]{8}\.history)\.lz4"
)
TIMELINE_OBJECT = re.compile(r"timelines/([0-9A-F]{8})")


def server_name(tenant: str) -> str:
    """Barman's name of a tenant's server: it keeps `all` and `barman`, which may be tenants' ids, for itself."""
    return f"tenant-{tenant}"


def new_archive() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def base_object(backup: str, begin: str, size: int, parent: str | None) -> str:
    return f"base/{backup}/{begin}.{size}{f'.{parent}' if parent else ''}.tar.lz4"


def record_object(backup: str) -> str:
    return f"base/{backup}/backup.info"


def wal_object(name: str) -> str:
    return f"wals/{name}.lz4" if HISTORY.fullmatch(name) else f"wals/{name[:16]}/{name}.lz4"


def timeline_of(segment: str) -> str:
    return segment[:8]


def position_of(segment: str) -> str:
    """Of a segment, whatever its timeline; later ones are greater."""
    return segment[8:24]


def next_segment(segment: str) -> str:
    number = int(segment[8:16], 16) * 256 + int(segment[16:24], 16) + 1
    return f"{segment[:8]}{number // 256:08X}{number % 256:08X}"


def begun_at(backup: str) -> float:
    """When a base backup was begun, in seconds since 1970; 0 when the name is no time."""
    try:
        return datetime.strptime(backup, "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0


class Record(NamedTuple):
    """What is read of Barman's record of a base backup."""

    status: str
    begin: str
    end: str
    end_time: datetime | None
    timeline: int
    parent: str | None

    @property
    def is_complete(self) -> bool:
        return self.status in ("DONE", "WAITING_FOR_WALS")


def read_record(text: str) -> Record:
    """@raises ValueError when a field is not as Barman writes it"""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    status = fields.get("status", "")
    if not re.fullmatch(r"[A-Z_]{1,32}", status):
        raise ValueError("it has no status")
    parent = fields.get("parent_backup_id", "None")
    if parent == "None":
        parent = None
    elif not BACKUP.fullmatch(parent):
        raise ValueError("its parent is no base backup")
    begin, end, end_time = (fields.get(name, "None") for name in ("begin_wal", "end_xlog", "end_time"))
    if status not in ("DONE", "WAITING_FOR_WALS"):
        return Record(status, "", "", None, 0, parent)
    if not SEGMENT.fullmatch(begin) or not re.fullmatch(r"[0-9A-F]{1,8}/[0-9A-F]{1,8}", end):
        raise ValueError("it does not say which WAL it needs")
    finished = datetime.fromisoformat(end_time)
    if finished.tzinfo is None:
        raise ValueError("its end has no time zone")
    return Record(status, begin, end, finished, int(fields.get("timeline", ""), 10), parent)
