"""Copies the tenants' backups off the host, and fetches them back.

The destination is in a folder of the container's own volume, /var/lib/offsite/destination: settings.json and
credentials. What is known of the copies is in /var/lib/offsite/state. The tenants' backup volumes are at /backups/ID.
"""

import argparse
import json
import os
import secrets
import signal
import sys
import time
from datetime import datetime

from . import names
from .bucket import Bucket, read_settings
from .fetch import NotThere, fetch
from .run import STATUS_FILE, Runner, reason

HOME = "/var/lib/offsite"

# The status is written every five seconds.
STALE_SECONDS = 60

# What a caller tells apart: there is nothing of that time.
NOT_THERE = 68


def main(arguments: list[str] | None = None) -> int:
    os.umask(0o077)
    # Nothing of where the credentials may come from but the files.
    os.environ.update(AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null")
    options = _parser().parse_args(arguments)
    try:
        return options.verb(options)
    except NotThere as error:
        print(reason(error), file=sys.stderr)
        return NOT_THERE
    except Exception as error:
        print(reason(error), file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pgs-offsite", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    run = verbs.add_parser("run", help="copy for ever; without a destination, wait for one")
    run.add_argument("--tenant", action="append", default=[], type=_tenant_days, metavar="ID=DAYS")
    run.set_defaults(verb=_run)
    status = verbs.add_parser("status", help="print how each tenant's copies are, as JSON")
    status.set_defaults(verb=_status)
    check = verbs.add_parser("check", help="try the destination that the files in a folder name")
    check.add_argument("--settings", required=True, metavar="FOLDER")
    check.set_defaults(verb=_check)
    back = verbs.add_parser("fetch", help="fetch what a restore needs")
    back.add_argument("--tenant", required=True, type=_tenant, metavar="ID")
    back.add_argument("--at", type=_time, help="time with its zone; without it, the end of what there is")
    back.add_argument("--to", required=True, metavar="FOLDER")
    back.set_defaults(verb=_fetch)
    return parser


def _run(options: argparse.Namespace) -> int:
    # As the first process of the container it would not end by default.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Runner(options.tenant, "/backups", HOME).run()
    return 0


def _status(_: argparse.Namespace) -> int:
    with open(STATUS_FILE, encoding="utf-8") as file:
        status = json.load(file)
    if time.time() - status["at"] > STALE_SECONDS:
        raise RuntimeError("what copies backups off the host does not run")
    print(json.dumps(status))
    return 0


def _check(options: argparse.Namespace) -> int:
    """Writes, reads and deletes one object."""
    settings = read_settings(options.settings)
    if settings is None:
        raise RuntimeError("no destination is set")
    bucket = Bucket(settings)
    key = f"pgs-check-{secrets.token_hex(8)}"
    bucket.put(key, b"pgs")
    content = bucket.open(key).read(64)
    bucket.delete([key])
    if content != b"pgs":
        raise RuntimeError("an object came back changed")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    settings = read_settings(f"{HOME}/destination")
    if settings is None:
        raise RuntimeError("no destination is set")
    backup = fetch(Bucket(settings), options.tenant, options.at, options.to)
    print(json.dumps({"backup": backup}))
    return 0


def _tenant(text: str) -> str:
    if not names.TENANT.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!a} is no tenant id")
    return text


def _tenant_days(text: str) -> tuple[str, int]:
    tenant, _, days = text.partition("=")
    if not days.isdecimal() or int(days) < 1:
        raise argparse.ArgumentTypeError(f"expected ID=DAYS, got {text!a}")
    return _tenant(tenant), int(days)


def _time(text: str) -> datetime:
    try:
        time_of_text = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if time_of_text.tzinfo is None:
        raise argparse.ArgumentTypeError("expected a time with its zone")
    return time_of_text
