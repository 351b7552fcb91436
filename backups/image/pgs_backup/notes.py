"""What the package itself has to remember, as JSON files in the backup volume.

Whatever the tenant's server sent may have overwritten them: they are read as data, and a bad one counts as none.
"""

import errno
import json
import os
import stat
import time

from . import layout

LIMIT = 1 << 20


def read_bounded(path, limit=LIMIT):
    """A plain file's content; None when it is missing, or is something else, such as a FIFO or a link."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        content = b""
        while len(content) <= limit:
            part = os.read(fd, limit + 1 - len(content))
            if not part:
                return content
            content += part
        return None
    except OSError:
        return None
    finally:
        os.close(fd)


def replace_file(path, content):
    """In one step, and on the disk."""
    temporary = path + ".new"
    remove(temporary)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)


def remove(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.ENOTDIR:
            raise


class Notes:
    NAMES = ("identity", "due", "retired", "settings")

    def __init__(self, home=None):
        self.home = home or layout.HOME

    def _path(self, name):
        return os.path.join(self.home, name + ".json")

    def _read(self, name, fields):
        return typed(read_bounded(self._path(name)), fields)

    def _write(self, name, value):
        replace_file(self._path(name), json.dumps(value).encode())

    # --- which data the backups are of ---

    def identity(self):
        """{"system": …, "volume": … or ""}, or None."""
        return self._read("identity", {"system": str, "volume": str})

    def note_identity(self, system, volume):
        self._write("identity", {"system": system, "volume": volume})

    # --- a base backup is to be made at once ---

    def is_due(self):
        return self._read("due", {"at": int}) is not None

    def note_due(self):
        self._write("due", {"at": int(time.time())})

    def clear_due(self):
        remove(self._path("due"))

    # --- the tenant was removed ---

    def retired(self):
        return self._read("retired", {"at": int, "retention": int})

    def note_retired(self, retention):
        self._write("retired", {"at": int(time.time()), "retention": retention})

    def clear_retired(self):
        remove(self._path("retired"))

    # --- what the supervisor was started with, for the verbs ---

    def retention(self):
        settings = self._read("settings", {"retention": int})
        return settings["retention"] if settings else 7

    def note_retention(self, retention):
        if self.retention() != retention or self._read("settings", {"retention": int}) is None:
            self._write("settings", {"retention": retention})


def typed(content, fields):
    """The fields of a JSON object, when each has its type, and numbers are not negative; else None."""
    if content is None:
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    found = {}
    for name, kind in fields.items():
        field = value.get(name)
        if type(field) is not kind or (kind is int and not 0 <= field < 1 << 53):
            return None
        found[name] = field
    return found
