"""Copies all tenants' backups for ever, each apart from the others."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from .bucket import Bucket, Settings, read_settings
from .copies import Copies, State

# How often a tenant's backups are looked at, and how long one waits after a failure, in seconds.
INTERVAL = 5
AFTER_FAILURE = 20
AFTER_FAILED_BASE = 60

# Each has a segment in memory.
WAL_THREADS = 3

# Base backups that are under way at once, each with a part in memory.
BASES_AT_ONCE = 4

STATUS_FILE = "/tmp/offsite.json"


def log(text: str) -> None:
    print(f"{datetime.now(UTC):%F %T} {text}", file=sys.stderr, flush=True)


def reason(error: BaseException) -> str:
    return " ".join(ascii(str(error))[1:-1].split())[:500] or type(error).__name__


class Runner:
    def __init__(self, tenants: list[tuple[str, int]], backups: str, home: str):
        state_folder = f"{home}/state"
        os.makedirs(state_folder, exist_ok=True)
        self.copies = [
            Copies(tenant, days, f"{backups}/{tenant}", State(f"{state_folder}/{tenant}.json"))
            for tenant, days in tenants
        ]
        self._destination = f"{home}/destination"
        self._lock = threading.Lock()
        self._due = {copies.tenant: 0.0 for copies in self.copies}
        self._bases_due = dict(self._due)
        self._problems: dict[tuple[str, str], str] = {}
        self._settings: Settings | None = None
        self.bucket = None

    def run(self) -> None:
        for work in [self._copy_bases, *[self._copy_wal] * WAL_THREADS]:
            threading.Thread(target=work, daemon=True).start()
        while True:
            self.read_destination()
            self.write_status()
            time.sleep(INTERVAL)

    def read_destination(self) -> None:
        try:
            settings = read_settings(self._destination)
            if settings != self._settings:
                self.bucket = Bucket(settings) if settings else None
                self._settings = settings
            self._succeeded("destination", "")
        except Exception as error:
            self._failed("destination", "", error)

    # --- WAL ---

    def _copy_wal(self) -> None:
        while True:
            if not self.copy_wal_once():
                time.sleep(0.5)

    def copy_wal_once(self) -> bool:
        """A turn for the tenant that has waited longest. @returns whether there was one"""
        with self._lock:
            bucket, now = self.bucket, time.monotonic()
            due = [copies for copies in self.copies if self._due[copies.tenant] <= now]
            if bucket is None or not due:
                return False
            copies = min(due, key=lambda copies: self._due[copies.tenant])
            # Of no other thread.
            self._due[copies.tenant] = float("inf")
        pause: float = AFTER_FAILURE
        try:
            pause = 0 if copies.copy_wal(bucket) else INTERVAL
            self._succeeded(copies.tenant, "WAL")
        except Exception as error:
            self._failed(copies.tenant, "WAL", error)
        finally:
            with self._lock:
                self._due[copies.tenant] = time.monotonic() + pause
        return True

    # --- base backups ---

    def _copy_bases(self) -> None:
        under_way: dict[str, Iterator[None]] = {}
        while True:
            if not self.copy_bases_once(under_way):
                time.sleep(1)

    def copy_bases_once(self, under_way: dict[str, Iterator[None]]) -> bool:
        """A step of each that is under way. @returns whether there was one"""
        bucket, now = self.bucket, time.monotonic()
        if bucket is None:
            return False
        for copies in sorted(self.copies, key=lambda copies: self._bases_due[copies.tenant]):
            if len(under_way) >= BASES_AT_ONCE:
                break
            if copies.tenant not in under_way and self._bases_due[copies.tenant] <= now:
                under_way[copies.tenant] = copies.copy_bases(bucket)
        for tenant, steps in list(under_way.items()):
            try:
                next(steps)
                continue
            except StopIteration:
                self._succeeded(tenant, "base backup")
                pause = INTERVAL
            except Exception as error:
                self._failed(tenant, "base backup", error)
                pause = AFTER_FAILED_BASE
            del under_way[tenant]
            self._bases_due[tenant] = time.monotonic() + pause
        return bool(under_way)

    # --- how it goes ---

    def _failed(self, tenant: str, what: str, error: Exception) -> None:
        """Into the log once, and again when it fails for another reason."""
        text = reason(error)
        if self._problems.get((tenant, what)) != text:
            log(f"{tenant}: {f'{what}: ' if what else ''}{text}; tried again until it succeeds")
        self._problems[tenant, what] = text

    def _succeeded(self, tenant: str, what: str) -> None:
        if self._problems.pop((tenant, what), None):
            log(f"{tenant}: {f'{what}: ' if what else ''}goes on")

    def write_status(self) -> None:
        tenants = [
            {
                "tenant": copies.tenant,
                "base": int(copies.newest_base),
                "wal": int(copies.wal_complete),
                "waiting": copies.waiting,
                "problem": self._problem_of(copies.tenant),
            }
            for copies in self.copies
        ]
        with open(f"{STATUS_FILE}.new", "w", encoding="utf-8") as file:
            json.dump({"at": int(time.time()), "tenants": tenants}, file)
        os.replace(f"{STATUS_FILE}.new", STATUS_FILE)

    def _problem_of(self, tenant: str) -> str | None:
        problems = dict(self._problems)
        found = [("destination", ""), (tenant, "base backup"), (tenant, "WAL")]
        return next((problems[key] for key in found if key in problems), None)
