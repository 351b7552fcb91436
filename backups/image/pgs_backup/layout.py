"""Where things are in the backup volume, and names of WAL files."""

import os
import re

HOME = "/var/lib/barman"
# The tenant's data volume, read-only.
DATA = "/var/lib/postgresql"
SOCKETS = DATA + "/.sockets"
SOCKET = SOCKETS + "/.s.PGSQL.5432"
# Gone with the container: locks, and what went wrong lately.
SCRATCH = "/tmp"
SLOT = "pgs_backup"
SEGMENT = 16 << 20

_SEGMENT_NAME = re.compile(r"[0-9A-F]{24}\Z")
_PARTIAL_NAME = re.compile(r"[0-9A-F]{24}\.partial\Z")
_TENANT = re.compile(r"[a-z][a-z0-9-]{0,79}\Z")


class Failure(Exception):
    """What a verb reports as its error."""


def check_tenant(tenant):
    if not _TENANT.match(tenant):
        raise Failure("not a tenant's id")
    return tenant


def barman_name(tenant):
    """Barman keeps `barman` and `all` for itself, which may be tenants' ids."""
    return "tenant-" + tenant


class Folders:
    """The folders of one set of backups."""

    def __init__(self, name, home=None):
        self.name = name
        self.home = os.path.join(home or HOME, name)
        self.streaming = os.path.join(self.home, "streaming")
        self.wals = os.path.join(self.home, "wals")
        self.meta = os.path.join(self.home, "meta")
        self.base = os.path.join(self.home, "base")

    def lock(self, task):
        return os.path.join(SCRATCH, f".{self.name}-{task}.lock")

    def filed(self, segment):
        return os.path.join(self.wals, segment[:16], segment)


def is_segment(name):
    return _SEGMENT_NAME.match(name) is not None


def is_partial(name):
    return _PARTIAL_NAME.match(name) is not None


def names_in(folder):
    """Sorted; none when the folder is missing."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def segments_in(folder):
    return [name for name in names_in(folder) if is_segment(name)]


def partials_in(folder):
    return [name for name in names_in(folder) if is_partial(name)]


def segment_at(timeline, lsn):
    """Name of the segment of a position such as 0/3000028."""
    match = re.match(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})\Z", lsn)
    if not match:
        raise Failure("not a WAL position")
    number = ((int(match[1], 16) << 32) | int(match[2], 16)) // SEGMENT
    return f"{timeline}{number // 256:08X}{number % 256:08X}"


def next_segment(name):
    number = int(name[8:16], 16) * 256 + int(name[16:], 16) + 1
    return f"{name[:8]}{number // 256:08X}{number % 256:08X}"


def spare_bytes(status):
    """What stays free on a disk, for the other tenants of the host."""
    return min(1 << 30, status.f_blocks * status.f_frsize // 20)


def room(folder=None):
    """Bytes that backups may still take on the disk; negative when others need it."""
    status = os.statvfs(folder or HOME)
    return status.f_bavail * status.f_frsize - spare_bytes(status)
