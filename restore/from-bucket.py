"""Finds what CloudNativePG restores a tenant from, in the bucket of a stack's backups.

Runs once, in a pod beside the tenant that is made; nothing of it is on a disk. A folder of a tenant in the bucket is
either what CloudNativePG wrote there, and is used as it is, or what a stack on Docker copied there. Of that, a base
backup and its WAL are written beside it as CloudNativePG reads them: WAL by the S3 server itself, the base backup
through this process.

Its answer is where Kubernetes takes a container's last words from.
"""

import json
import os
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from pgs_offsite import names
from pgs_offsite.bucket import LEAST_PART, Bucket, Settings
from pgs_offsite.compression import Decompressed, compress, compressor, read_all
from pgs_offsite.fetch import Archive, Backup, NotThere

CREDENTIALS = "/pgs/credentials"
ANSWER = "/dev/termination-log"
# Kubernetes keeps 4096 bytes of it.
ANSWER_CHARACTERS = 900

# Folders of CloudNativePG begin so, and those that are written here.
CLUSTER = "cluster-"
PREPARED = "prepared-"

PART = 16 << 20
THREADS = 4


class ClusterBucket(Bucket):
    def copy(self, source: str, target: str) -> None:
        """Within the bucket, by the server itself."""
        self._client.copy_object(
            Bucket=self._name,
            Key=self._path + target,
            CopySource={"Bucket": self._name, "Key": self._path + source},
            **self._encrypted,
        )


def main() -> None:
    os.environ.update(AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null")
    asked = json.loads(sys.argv[1])
    at = datetime.fromisoformat(asked["at"].replace("Z", "+00:00")) if "at" in asked else None
    bucket = ClusterBucket(
        Settings(
            asked["destination"].rstrip("/"),
            asked.get("endpoint"),
            credential("region"),
            None if asked["encryption"] == "off" else asked["encryption"],
            credential("accessKeyId"),
            credential("secretAccessKey"),
        )
    )
    try:
        answer = {"folder": find(bucket, asked["tenant"], asked.get("own"), at, asked["version"])}
    except Exception as error:
        answer = {"problem": " ".join(str(error).split())[:ANSWER_CHARACTERS] or type(error).__name__}
    with open(ANSWER, "w", encoding="utf-8") as file:
        file.write(json.dumps(answer, ensure_ascii=False))


def credential(name: str) -> str:
    with open(f"{CREDENTIALS}/{name}", encoding="utf-8") as file:
        return file.read()


def find(bucket: ClusterBucket, tenant: str, own: str | None, at: datetime | None, version: int) -> str:
    """Of the tenant's folders: the one that this stack writes, else the one with the newest base backup.

    Other stacks, on Docker or as a trial, may have written others, whose rows are not this tenant's.
    @returns the folder that a restore to that time reads
    """
    home = names.server_name(tenant)
    newest: tuple[bool, str, str] | None = None
    for folder in bucket.folders(f"{home}/"):
        if not folder.startswith(CLUSTER) and not names.ARCHIVE.fullmatch(folder):
            continue
        for backup in complete_backups(bucket, f"{home}/{folder}", at):
            newest = max(newest or (False, "", ""), (folder == own, backup, folder))
    if newest is None:
        before = f" from before {at.isoformat()}" if at else ""
        raise NotThere(f"there is no base backup of {tenant}{before} at {bucket.url}")
    _, backup, folder = newest
    record = read_info(bucket, f"{home}/{folder}/base/{backup}/backup.info")
    major = int(record.get("version", "0")) // 10_000
    if major != version:
        raise NotThere(f"the data of {tenant} is that of PostgreSQL {major}: write version: {major}")
    return folder if folder.startswith(CLUSTER) else prepare(bucket, home, folder, at)


def complete_backups(bucket: ClusterBucket, prefix: str, at: datetime | None) -> list[str]:
    """The newest of a folder's complete base backups from before a time; none where there is none."""
    found = sorted(
        match[1]
        for key, _ in bucket.listing(f"{prefix}/base/")
        if (match := names.RECORD_OBJECT.fullmatch(f"base/{key}"))
        and (at is None or names.begun_at(match[1]) <= at.timestamp())
    )
    for backup in reversed(found):
        record = read_info(bucket, f"{prefix}/base/{backup}/backup.info")
        if record.get("status") not in ("DONE", "WAITING_FOR_WALS"):
            continue
        if at is None or datetime.fromisoformat(record["end_time"]) <= at:
            return [backup]
    return []


def read_info(bucket: ClusterBucket, key: str) -> dict[str, str]:
    text = bucket.open(key).read(1 << 20).decode("utf-8")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


# --- what a stack on Docker wrote ---


def prepare(bucket: ClusterBucket, home: str, folder: str, at: datetime | None) -> str:
    """@returns the folder that has it as CloudNativePG reads it; running again goes on"""
    archive = Archive(bucket, f"{home}/{folder}")
    found = archive.choose(at)
    if found is None:
        raise NotThere(f"there is no usable base backup in {home}/{folder} at {bucket.url}")
    chain, path = found
    # CloudNativePG reads no incremental base backups: more WAL is replayed instead.
    full = chain[0]
    wal = archive.wal_of(full, path)
    demand_all(wal, full.begin, path, bucket)
    prepared = f"{PREPARED}{folder}-{full.backup}"
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda name: copy_wal(bucket, f"{home}/{folder}", f"{home}/{prepared}", name), wal))
    target = f"{home}/{prepared}/base/{full.backup}"
    if not any(key == "backup.info" for key, _ in bucket.listing(f"{target}/")):
        copy_base(bucket, f"{home}/{folder}/{full.key}", f"{target}/data.tar.lz4")
        bucket.put(f"{target}/backup.info", info_of(full))
    return prepared


def demand_all(wal: list[str], begin: str, path: list[int], bucket: ClusterBucket) -> None:
    """A gap would end the recovery before it, without a word."""
    segments = {names.position_of(name) for name in wal if not name.endswith(".history")}
    last, position = max(segments), begin
    while names.position_of(position) < last:
        position = names.next_segment(position)
        if names.position_of(position) not in segments:
            raise NotThere(
                f"the WAL has a gap: {position[8:]} is missing at {bucket.url}, so the base backup of before it "
                "cannot be used: let the stack on Docker make a full one, and run this again"
            )


def copy_wal(bucket: ClusterBucket, source: str, target: str, name: str) -> None:
    key = names.wal_object(name)
    if not name.endswith(".partial"):
        bucket.copy(f"{source}/{key}", f"{target}/{key}")
        return
    # PostgreSQL takes a whole segment alone; what is behind the last record is zeros.
    data = read_all(bucket.open(f"{source}/{key}"), names.SEGMENT_BYTES)
    segment = names.wal_object(name.removesuffix(".partial"))
    bucket.put(f"{target}/{segment}", compress(data.ljust(names.SEGMENT_BYTES, b"\0")))


def info_of(full: Backup) -> bytes:
    """Barman's record of a base backup, whose WAL is there."""
    lines = []
    for line in full.text.decode("utf-8").splitlines():
        field = line.split("=", 1)[0]
        changed = {"status": "DONE", "children_backup_ids": "None"}.get(field)
        lines.append(line if changed is None else f"{field}={changed}")
    return "\n".join([*lines, ""]).encode()


class Parts:
    """A file that goes to an object in parts, compressed."""

    def __init__(self, upload) -> None:
        self._upload = upload
        self._frame = compressor()
        self._buffer = bytearray(self._frame.begin())

    def write(self, data: bytes) -> int:
        self._buffer += self._frame.compress(data)
        if len(self._buffer) >= max(PART, LEAST_PART):
            self._upload.add(bytes(self._buffer))
            self._buffer.clear()
        return len(data)

    def end(self) -> None:
        self._buffer += self._frame.flush()
        self._upload.add(bytes(self._buffer))


def copy_base(bucket: ClusterBucket, source_key: str, key: str) -> None:
    upload = bucket.start(key)
    try:
        parts = Parts(upload)
        stream = Decompressed(bucket.open(source_key))
        with (
            tarfile.open(fileobj=stream, mode="r|") as source,  # type: ignore[arg-type]
            tarfile.open(fileobj=parts, mode="w|") as target,  # type: ignore[arg-type]
        ):
            for entry in source:
                top, _, path = entry.name.partition("/")
                if top != "data":
                    raise NotThere(
                        "it has tablespaces, which a restore on Kubernetes cannot make: move by a dump"
                    )
                if path == "":
                    continue
                entry.name = path
                # What the stack on Docker set by ALTER SYSTEM would count over what the Cluster says.
                if path == "postgresql.auto.conf":
                    entry.size = 0
                target.addfile(entry, source.extractfile(entry) if entry.isreg() and entry.size else None)
        parts.end()
        upload.complete()
    except BaseException:
        upload.abort()
        raise


main()
