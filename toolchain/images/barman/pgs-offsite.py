#!/usr/bin/python3
"""Copies every tenant's WAL and full base backups to S3, by Barman's own classes and commands.

pgs-offsite run                     copies for ever; waits while no destination is set
pgs-offsite check FOLDER            tries the destination that the files in FOLDER name
pgs-offsite restore SERVER AT TO    lays out SERVER's data as of AT (empty: the end of the WAL) in the folder TO

The destination is in the folder `destination` of Barman's volume: settings.json, and the file `credentials`.
What is on its way for a tenant is in the folder `offsite` of its backups:
  wals/    a link to each segment that waits; made before Barman files it, so that none is ever missed
  archive  the URL that the tenant's copy is at, which no other Barman writes to
  base     id of the newest base backup that is there
  arrived  of its time, all that was received is there
"""

import io
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

HOME = Path("/var/lib/barman")
DESTINATION = HOME / "destination"
SCRATCH = HOME / ".offsite"

# A segment that is being filled is copied this often, in seconds, when it has changed.
PARTIAL_INTERVAL = 60

SEGMENT = 16 << 20

# What a restore needs beside data and WAL, to work with.
SPARE = 256 << 20


class Destination:
    """Where the copies go to."""

    def __init__(self, folder):
        settings = json.loads((folder / "settings.json").read_text())
        self.url = settings["destination"].rstrip("/")
        self.endpoint = settings.get("endpoint")
        self.encryption = None if settings["encryption"] == "off" else settings["encryption"]
        # Whatever is written anew is read anew.
        self.written = [(folder / name).stat().st_mtime_ns for name in ("settings.json", "credentials")]
        # Read by boto3. Neither is a secret: the first is the path of a file.
        os.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(folder / "credentials")
        os.environ["AWS_DEFAULT_REGION"] = settings.get("region") or "us-east-1"

    def __eq__(self, other):
        return isinstance(other, Destination) and vars(self) == vars(other)

    def interface(self):
        """Barman's client; each takes megabytes."""
        from barman.cloud_providers.aws_s3 import S3CloudInterface

        return S3CloudInterface(self.url, encryption=self.encryption, endpoint_url=self.endpoint)

    def options(self, with_encryption=False):
        """For Barman's cloud commands."""
        options = ["--endpoint-url", self.endpoint] if self.endpoint else []
        if with_encryption and self.encryption:
            options += ["--encryption", self.encryption]
        return options


def log(text):
    print(f"{datetime.now(UTC):%F %T} off-site copy: {text}", file=sys.stderr, flush=True)


# --- copying ---


class Tenant:
    """What is copied of one tenant."""

    def __init__(self, name):
        self.name = name
        self.home = HOME / name
        self.state = self.home / "offsite"
        self.waiting = self.state / "wals"

    def prepare(self, destination):
        """Queues what there was before the destination was set. @returns whether there is something to copy"""
        if not (self.home / "wals").is_dir():
            return False
        parent = f"{destination.url}/{self.name}/"
        archive = self.state / "archive"
        if archive.exists() and archive.read_text().startswith(parent):
            return True
        self.waiting.mkdir(parents=True, exist_ok=True)
        archive.unlink(missing_ok=True)
        (self.state / "base").unlink(missing_ok=True)
        backup = self.newest_full()
        first = read_info(backup).get("begin_wal", "") if backup else ""
        for file in (self.home / "wals").glob("**/*"):
            if file.is_file() and is_wal(file.name) and (file.name >= first or file.suffix == ".history"):
                link(file, self.waiting / file.name)
        # Another Barman may have written there, of the same tenant on another host: it is never written over.
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        replace(archive, parent + name)
        return True

    def archive(self):
        """The URL that the copy is at."""
        return (self.state / "archive").read_text()

    def newest_full(self):
        """The description of the newest base backup that needs no other."""
        for info in sorted(self.home.glob("meta/*-backup.info"), reverse=True):
            found = read_info(info)
            if found.get("status") == "DONE" and found.get("parent_backup_id", "None") == "None":
                return info
        return None

    def retention(self):
        found = re.search(
            r"^retention_policy = (.+)$", (HOME / f"servers.d/{self.name}.conf").read_text(), re.M
        )
        return found and found[1]


class WalCopy:
    """The WAL of one tenant on its way."""

    def __init__(self, tenant, interface):
        from barman.clients.cloud_walarchive import CloudWalUploader

        self.tenant = tenant
        self.interface = interface
        # TENANT/ARCHIVE: to Barman it is the server's name.
        self.name = "/".join(tenant.archive().split("/")[-2:])
        self.uploader = CloudWalUploader(interface, self.name, compression="lz4")
        self.partial = None
        self.partial_at = 0.0

    def round(self):
        queued = sorted(self.tenant.waiting.iterdir())
        for file in queued:
            if file.suffix == ".history":
                # A restore has to know from when on the timeline was the tenant's.
                begun = io.BytesIO(str(file.stat().st_mtime).encode())
                self.interface.upload_fileobj(
                    begun, os.path.join(self.interface.path, self.name, "timelines", file.stem)
                )
            self.uploader.upload_wal(str(file))
            if self.partial and self.partial[0] == f"{file.name}.partial":
                self.interface.delete_objects([self.key(f"{file.name}.partial.lz4")])
            file.unlink()
        if self.copy_partial():
            (self.tenant.state / "arrived").touch()

    def key(self, file):
        return os.path.join(self.interface.path, self.name, "wals", file[:16], file)

    def copy_partial(self):
        """@returns whether nothing is left to be copied"""
        streaming = sorted(file for file in (self.tenant.home / "streaming").glob("*") if is_wal(file.name))
        # Never ahead of one that is complete, and waits to be filed: a restore would find a gap.
        if any(file.suffix != ".partial" for file in streaming):
            return False
        if not streaming:
            return True
        # pg_receivewal writes to the newest.
        file = streaming[-1]
        status = file.stat()
        now = (file.name, status.st_mtime_ns)
        if now == self.partial or status.st_size == 0:
            return True
        if time.monotonic() - self.partial_at < PARTIAL_INTERVAL:
            return False
        self.uploader.upload_wal(str(file))
        self.partial, self.partial_at = now, time.monotonic()
        return True


def run():
    copies, told = {}, {}
    base_copier = destination = interface = None
    while True:
        time.sleep(2)
        found = current_destination()
        if found is None:
            # Its memory is given back: it is started again, and waits.
            if destination is not None:
                return
            continue
        if found != destination:
            destination, interface, copies = found, found.interface(), {}
        tenants = [
            tenant
            for tenant in all_tenants()
            if attempt(told, tenant, lambda t=tenant, to=destination: t.prepare(to))
        ]
        if base_copier is None or not base_copier.is_alive():
            base_copier = Thread(target=copy_bases, args=(tenants, destination), daemon=True)
            base_copier.start()

        def copy(tenant, copies=copies, interface=interface):
            def one_round():
                # One that was set aside, or made anew, has another archive.
                archive = tenant.archive()
                if archive not in copies:
                    copies[archive] = WalCopy(tenant, interface)
                copies[archive].round()

            attempt(told, tenant, one_round)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(copy, tenants))


def current_destination():
    try:
        return Destination(DESTINATION)
    except FileNotFoundError:
        return None


def all_tenants():
    return [Tenant(file.stem) for file in sorted((HOME / "servers.d").glob("tenant-*.conf"))]


def attempt(told, tenant, action):
    """Tells of a failure once, and of its end."""
    try:
        result = action()
        if told.pop(tenant.name, None):
            log(f"{tenant.name}: it goes on")
        return result
    except Exception as error:
        if told.get(tenant.name) is not type(error):
            log(f"{tenant.name}: {reason(error)}; tried again until it succeeds")
        told[tenant.name] = type(error)
        return None


failed_bases = {}


def copy_bases(tenants, destination):
    """The newest full base backup of each tenant, one after another."""
    for tenant in tenants:
        try:
            if time.monotonic() < failed_bases.get(tenant.name, 0):
                continue
            backup = tenant.newest_full()
            if backup is None or stem(backup) == read_text(tenant.state / "base"):
                continue
            copy_base(tenant, backup, destination)
            replace(tenant.state / "base", stem(backup))
            delete_old(tenant, destination)
        except Exception as error:
            failed_bases[tenant.name] = time.monotonic() + 60
            log(f"{tenant.name}: base backup: {reason(error)}; tried again in a minute")


def copy_base(tenant, info, destination):
    """Barman's command as its hook after a backup, which can be run again at any time."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(SCRATCH),
        "BARMAN_HOOK": "backup_retry_script",
        "BARMAN_PHASE": "post",
        "BARMAN_STATUS": "DONE",
        "BARMAN_BACKUP_ID": stem(info),
        "BARMAN_BACKUP_DIR": str(tenant.home / "base" / stem(info)),
        "BARMAN_BACKUP_INFO_PATH": str(info),
    }
    barman("cloud_backup", ["--lz4", *destination.options(True)], tenant, environment)


def delete_old(tenant, destination):
    policy = tenant.retention()
    if policy:
        options = ["--retention-policy", policy, "--minimum-redundancy", "1"]
        barman("cloud_backup_delete", [*options, *destination.options()], tenant, os.environ)


def barman(command, options, tenant, environment):
    url, name = tenant.archive().rsplit("/", 1)
    arguments = [sys.executable, "-m", f"barman.clients.{command}", *options, url, name]
    result = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(
            (result.stderr.strip() or f"{command} ended with {result.returncode}").splitlines()[-1]
        )


# --- trying a destination ---


def check(folder):
    """Writes, reads and deletes one object."""
    interface = Destination(Path(folder)).interface()
    key = os.path.join(interface.path, f"pgs-check-{secrets.token_hex(8)}")
    interface.upload_fileobj(io.BytesIO(b"pgs"), key)
    with interface.remote_open(key) as stream:
        read = stream.read()
    interface.delete_objects([key])
    if read != b"pgs":
        raise RuntimeError("an object came back changed")


# --- restoring ---


def restore(server, at, to):
    from barman.clients.cloud_restore import CloudBackupDownloaderObjectStore
    from barman.infofile import load_datetime_tz

    destination = Destination(DESTINATION)
    interface = destination.interface()
    catalog, backup, path = choose(interface, server, at, destination)
    log(f"{server}: base backup {backup.backup_id} of {catalog.server_name}")
    to = Path(to)
    wal = wal_of(catalog, backup, path)
    to.parent.mkdir(exist_ok=True)
    demand_room(to.parent, (backup.cluster_size or backup.size) + len(wal) * SEGMENT)
    with naming(f"base backup {backup.backup_id} of {catalog.server_name} at {destination.url}"):
        CloudBackupDownloaderObjectStore(interface, catalog).download_backup(backup, str(to), {})
    to.chmod(0o700)
    verify(to)
    fetch_wal(interface, catalog, wal, to / "barman_wal")
    lines = [
        "restore_command = 'cp barman_wal/%f %p'",
        f"recovery_target_timeline = '{path[-1]}'",
        "recovery_target_action = 'promote'",
    ]
    if at:
        # As Barman writes it: PostgreSQL takes no Z in its settings.
        lines.append(f"recovery_target_time = '{load_datetime_tz(at)}'")
    with open(to / "postgresql.auto.conf", "a") as file:
        file.write("\n" + "\n".join(lines) + "\n")
    (to / "recovery.signal").touch()


def choose(interface, server, at, destination):
    """The newest base backup that ended before the time, in the newest of the tenant's archives that has one.

    @returns the archive's catalog, the base backup, and the timelines that lead to the time, in their order
    """
    from barman.cloud import CloudBackupCatalog
    from barman.infofile import BackupInfo, load_datetime_tz

    time_of_target = load_datetime_tz(at) if at else None
    folders = interface.list_bucket(os.path.join(interface.path, server, ""))
    archives = sorted(
        (folder.rstrip("/").rsplit("/", 1)[-1] for folder in folders if folder.endswith("/")), reverse=True
    )
    for archive in archives:
        catalog = CloudBackupCatalog(interface, f"{server}/{archive}")
        all_backups = catalog.get_backup_list().values()
        # Barman passes over what it cannot read: an older archive would be taken for the end of what there is.
        if catalog.unreadable_backups:
            unreadable = f"{server}/{archive}/base/{catalog.unreadable_backups[0]}/backup.info"
            raise RuntimeError(
                f"{unreadable} at {destination.url} cannot be read: try again, or take that base backup away"
            )
        found = [
            backup
            for backup in all_backups
            if backup.status != BackupInfo.STARTED and (not at or backup.end_time <= time_of_target)
        ]
        if not found:
            continue
        timeline = timeline_of(interface, catalog, time_of_target, min(backup.timeline for backup in found))
        left = left_for(interface, catalog, timeline)
        backups = [
            backup
            for backup in found
            if backup.timeline == timeline
            or (backup.timeline in left and position(backup.end_xlog) <= left[backup.timeline])
        ]
        if backups:
            return catalog, max(backups, key=lambda backup: backup.backup_id), [*left, timeline]
    before = f" from before {at}" if at else ""
    raise RuntimeError(
        f"there is no base backup of {server.removeprefix('tenant-')}{before} at {destination.url} either"
    )


def timeline_of(interface, catalog, time_of_target, first):
    """The one that was the tenant's at that time: each restore in place began another."""
    folder = os.path.join(interface.path, catalog.server_name, "timelines", "")
    begun = {}
    for key in interface.list_bucket(folder):
        with interface.remote_open(key) as stream:
            begun[int(os.path.basename(key), 16)] = float(stream.read())
    limit = time_of_target.timestamp() if time_of_target else float("inf")
    return max([first, *(timeline for timeline, at in begun.items() if at <= limit)])


def left_for(interface, catalog, timeline):
    """Of the timelines that lead to this one, each by where it was left."""
    path = catalog.get_wal_paths().get(f"{timeline:08X}.history")
    if path is None:
        return {}
    with TemporaryDirectory(dir="/tmp") as folder:
        file = Path(folder) / "history"
        download(interface, path, file)
        lines = [line.split() for line in file.read_text().splitlines()]
    return {int(line[0]): position(line[1]) for line in lines if len(line) >= 2 and line[0].isdigit()}


def position(lsn):
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def download(interface, path, to):
    from barman.cloud import ALLOWED_COMPRESSIONS

    interface.download_file(path, str(to), ALLOWED_COMPRESSIONS.get(os.path.splitext(path)[1]))


@contextmanager
def naming(what):
    """Says what cannot be read: the error of a library does not."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise RuntimeError(f"{what} cannot be read: {reason(error)}") from error


def verify(to):
    """Against the manifest that the server made."""
    command = ["pg_verifybackup", "--no-parse-wal", "--exit-on-error", "--quiet", str(to)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"the base backup at S3 is damaged: {result.stdout.strip()}")


def wal_of(catalog, backup, path):
    """All from the base backup on, of the timelines that lead to the time; of the others, that they were begun."""
    wal = [
        name
        for name in catalog.get_wal_paths()
        if name.endswith(".history") or (int(name[:8], 16) in path and name[8:24] >= backup.begin_wal[8:24])
    ]
    # What is missing later is seen where it is laid out.
    if not any(name[:24] == backup.begin_wal for name in wal):
        raise RuntimeError(f"the WAL has a gap: {backup.begin_wal} is missing at S3")
    return wal


def demand_room(folder, size):
    """A full disk would stop the other tenants of the host."""
    needed = size + SPARE
    free = shutil.disk_usage(folder).free
    if free < needed:
        where = "on the disk of Docker's volumes"
        raise RuntimeError(f"it needs {needed >> 20} MiB {where}, and {free >> 20} MiB are free")


def fetch_wal(interface, catalog, wal, to):
    to.mkdir()
    found = catalog.get_wal_paths()

    def fetch(name):
        # A segment that was being filled counts until it is there as a whole.
        target = name.removesuffix(".partial")
        if target != name and target in found:
            return
        with naming(f"{name} of {catalog.server_name} at S3"):
            download(interface, found[name], to / target)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, wal))


# --- small things ---


def is_wal(name):
    return re.fullmatch(r"[0-9A-F]{24}(\.partial)?|[0-9A-F]{8}\.history", name) is not None


def read_info(path):
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


def stem(info):
    return info.name.removesuffix("-backup.info")


def read_text(path):
    return path.read_text() if path.exists() else ""


def link(file, to):
    try:
        os.link(file, to)
    except FileExistsError:
        pass


def replace(path, text):
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(path)


def reason(error):
    return " ".join(str(error).split()) or type(error).__name__


def main():
    os.umask(0o077)
    command, arguments = sys.argv[1], sys.argv[2:]
    try:
        {"run": run, "check": check, "restore": restore}[command](*arguments)
    except (Exception, SystemExit) as error:
        print(reason(error), file=sys.stderr)
        sys.exit(1)


main()
