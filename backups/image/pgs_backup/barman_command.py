"""Runs Barman in a process of its own, with a configuration that lies in no file."""

import os
import signal
import sys
import time

from . import layout, server

# kB a second: at full speed, a base backup takes two fifths of its tenant's writes (bench/results.md).
BANDWIDTH = 30000


def configuration(name, retention, database):
    """https://docs.pgbarman.org/release/3.19.1/user_guide/configuration.html

    Barman's home is nowhere: it would read more of its configuration from there.
    """
    return f"""
[barman]
barman_user = postgres
barman_home = /nonexistent
barman_lock_directory = {layout.SCRATCH}
log_level = ERROR

[{name}]
backup_directory = {layout.HOME}/{name}
conninfo = {server.conninfo(database)}
streaming_conninfo = {server.conninfo(database)}
backup_method = postgres
streaming_archiver = on
slot_name = {layout.SLOT}
immediate_checkpoint = true
bandwidth_limit = {BANDWIDTH}
retention_policy = RECOVERY WINDOW OF {retention} DAYS
minimum_redundancy = 1
"""


def prepare(name, retention, database=server.DATABASES[0]):
    """The environment and the configuration; Barman is loaded. Only a base backup enters the database."""
    # Before Barman is there: its modules read neither later on.
    clean = server.environment()
    os.environ.clear()
    os.environ.update(clean)
    fd = os.memfd_create("barman.conf")
    os.write(fd, configuration(name, retention, database).encode())
    os.environ["BARMAN_CONFIG_FILE"] = f"/proc/self/fd/{fd}"
    import barman.cli  # noqa: F401


def main(arguments):
    """Barman's own command, which does not return."""
    import barman.cli

    sys.argv = ["barman", *arguments]
    barman.cli.main()


def start(arguments):
    """@returns the process"""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        discard_output()
        # It says everything twice: what goes to its log is enough.
        main(["--format", "json", *arguments])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        print(error, file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)


def discard_output():
    """The answer of a verb is alone on standard output."""
    null = os.open("/dev/null", os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def run(arguments, deadline, watch=None):
    """@returns whether it succeeded; `watch` is called every second and ends it by a reason

    @raises layout.Failure when it was ended
    """
    pid = start(arguments)
    end = time.monotonic() + deadline
    pause = 0.02
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        reason = "it took too long" if time.monotonic() > end else watch and watch()
        if reason:
            terminate(pid)
            raise layout.Failure(reason)
        time.sleep(pause)
        pause = min(1, pause * 1.5)


def terminate(pid):
    """Barman and what it has started: pg_basebackup would go on."""
    children = children_of(pid)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for one in [*children, pid]:
            try:
                os.kill(one, sign)
            except ProcessLookupError:
                pass
        end = time.monotonic() + 5
        while time.monotonic() < end:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.05)
    os.waitpid(pid, 0)


def children_of(pid):
    found = []
    for task in layout.names_in(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
        except (OSError, ValueError):
            continue
    return found + [grand for child in found for grand in children_of(child)]


def enforce_retention(name):
    """Barman does so in its `cron` alone, which would start more. In a process of its own, like its commands."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    code = 1
    try:
        discard_output()
        import barman
        import barman.config
        from barman.cli import configure_logging
        from barman.server import Server

        config = barman.__config__ = barman.config.Config(os.environ["BARMAN_CONFIG_FILE"])
        configure_logging(None, config.log_level, config.log_format)
        Server(barman.__config__.get_server(name)).backup_manager.cron_retention_policy()
        code = 0
    except BaseException as error:
        print(error, file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)
