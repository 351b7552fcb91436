"""The supervisor as a process, with programs in place of PostgreSQL's and Barman that note what is asked of them."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
import unittest.mock

IMAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STATE = {
    "system": "7412",
    "current": "000000010000000000000001",
    "slot": {"status": "reserved", "restart": "000000010000000000000001", "active": True},
}

DRIVER = """
import sys
sys.path[:0] = [{fakes!r}, {image!r}]
from pgs_backup import layout
layout.HOME = {home!r} + "/barman"
layout.DATA = {home!r} + "/data"
layout.SOCKETS = layout.DATA + "/.sockets"
layout.SOCKET = layout.SOCKETS + "/.s.PGSQL.5432"
layout.SCRATCH = {home!r} + "/tmp"
layout.room = lambda folder=None: 1 << 40
from pgs_backup import server
server_environment = server.environment
server.environment = lambda: {{**server_environment(), "FAKES": {home!r}}}
from pgs_backup.supervisor import Supervisor
Supervisor("acme", "02:30", 7).run()
"""

PSQL = """
#!/bin/sh
echo psql >>"$FAKES/calls"
case "$*" in
*json_build_object*) cat "$FAKES/state" ;;
*pg_switch_wal*) printf 000000010000000000000001 ;;
esac
"""

PG_RECEIVEWAL = """
#!/bin/sh
echo "pg_receivewal $*" >>"$FAKES/calls"
trap 'exit 0' INT
folder=$FAKES/barman/tenant-acme/streaming
printf '\\033]0;title\\007\\n' >&2
echo 'pg_receivewal: starting log streaming at 0/1000000 (timeline 1)' >&2
: >"$folder/000000010000000000000001"
: >"$folder/000000010000000000000002.partial"
echo 'pg_receivewal: finished segment at 0/2000000 (timeline 1)' >&2
while [ ! -e "$FAKES/end" ]; do sleep 0.05; done
echo 'pg_receivewal: error: the server went away' >&2
exit 1
"""

BARMAN = """
import os, sys
home = os.environ["FAKES"]
def main():
    with open(home + "/calls", "a") as file:
        file.write("barman " + " ".join(sys.argv[1:]) + "\\n")
    folder = home + "/barman/tenant-acme"
    if "archive-wal" in sys.argv:
        os.makedirs(folder + "/wals/0000000100000000", exist_ok=True)
        for name in os.listdir(folder + "/streaming"):
            if len(name) == 24:
                os.rename(f"{folder}/streaming/{name}", f"{folder}/wals/0000000100000000/{name}")
    if "backup" in sys.argv:
        if os.path.exists(home + "/fail"):
            sys.stderr.write("2026-11-26 00:00:00,1 [9] barman.server ERROR: it is broken\\n")
            sys.exit(1)
        os.makedirs(folder + "/meta", exist_ok=True)
        with open(folder + "/meta/20991231T000000-backup.info", "w") as file:
            file.write("status=DONE\\nversion=180006\\n")
    sys.exit(0)
"""

BARMAN_CONFIG = """
class Config:
    log_level = log_format = None
    def __init__(self, path):
        open(path).close()
    def get_server(self, name):
        return name
"""

BARMAN_SERVER = """
import os
class Server:
    def __init__(self, name):
        self.name, self.backup_manager = name, self
    def cron_retention_policy(self):
        with open(os.environ["FAKES"] + "/calls", "a") as file:
            file.write("retention " + self.name + "\\n")
"""


class SupervisorTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.home = folder.name
        for name in ("barman", "data/.sockets", "tmp", "fakes/barman", "bin"):
            os.makedirs(self.path(name))
        self.script("bin/psql", PSQL)
        self.script("bin/pg_receivewal", PG_RECEIVEWAL)
        self.write("fakes/barman/__init__.py", "")
        self.write("fakes/barman/cli.py", BARMAN + "configure_logging = lambda *options: None\n")
        self.write("fakes/barman/config.py", BARMAN_CONFIG)
        self.write("fakes/barman/server.py", BARMAN_SERVER)
        self.write("state", json.dumps(STATE))
        self.listener = None
        self.process = None

    def tearDown(self):
        if self.process:
            # Its pg_receivewal too, which would otherwise run on for ever.
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.communicate()
        if self.listener:
            self.listener.close()

    def path(self, name):
        return os.path.join(self.home, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)

    def script(self, name, text):
        self.write(name, text.lstrip())
        os.chmod(self.path(name), 0o755)

    def read(self, name):
        try:
            with open(self.path(name)) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def calls(self, name):
        return [line for line in self.read("calls").splitlines() if line.startswith(name)]

    def serve(self):
        """Something listens at the server's socket."""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path("data/.sockets/.s.PGSQL.5432"))
        self.listener.listen(64)

    def start(self):
        driver = textwrap.dedent(DRIVER).format(image=IMAGE, fakes=self.path("fakes"), home=self.home)
        with open(self.path("log"), "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", driver],
                env={"PATH": self.path("bin") + ":/usr/bin:/bin"},
                stderr=log,
                start_new_session=True,
            )

    def eventually(self, check, seconds=15):
        end = time.monotonic() + seconds
        while not check():
            if time.monotonic() > end:
                self.fail(f"it never was so; calls: {self.read('calls')!r}, log: {self.read('log')!r}")
            time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        self.assertEqual(self.process.wait(10), 0)
        return time.monotonic() - begun

    def backups(self):
        return [call for call in self.calls("barman") if " backup " in call]

    def test_without_a_server_it_starts_no_process_and_ends_at_once(self):
        self.start()
        self.eventually(lambda: "waits for the server" in self.read("log"))
        time.sleep(1)
        self.assertEqual(self.read("calls"), "")
        self.assertLess(self.stop(), 2)

    def test_it_receives_files_and_makes_the_first_base_backup_once(self):
        self.serve()
        self.start()
        self.eventually(lambda: "is complete" in self.read("log"))
        self.assertEqual(len(self.backups()), 1)
        self.assertEqual(self.calls("retention"), ["retention tenant-acme"])
        self.assertTrue(
            os.path.exists(self.path("barman/tenant-acme/wals/0000000100000000/000000010000000000000001"))
        )
        time.sleep(0.5)
        [receiving] = self.calls("pg_receivewal")
        # By default the server is told every ten seconds, and `./pgs backups` would be as old.
        self.assertIn("--status-interval 2", receiving)
        self.assertEqual(len(self.backups()), 1)
        self.assertNotIn("\x1b", self.read("log"))
        self.assertLess(self.stop(), 3)

    def test_it_receives_again_after_the_server_was_away(self):
        self.serve()
        self.start()
        self.eventually(lambda: "is complete" in self.read("log"))
        self.write("end", "")
        self.eventually(lambda: "no longer received" in self.read("log"))
        self.assertIn("the server went away", self.read("tmp/problem-wal"))
        os.remove(self.path("end"))
        self.eventually(lambda: len(self.calls("pg_receivewal")) == 2)
        self.eventually(lambda: not os.path.exists(self.path("tmp/problem-wal")))
        self.assertEqual(len(self.backups()), 1)

    def test_a_server_that_refuses_is_asked_less_and_less(self):
        self.write("state", "}{")
        self.serve()
        self.start()
        time.sleep(6)
        self.assertLessEqual(len(self.calls("psql")), 6)
        self.assertEqual(self.calls("pg_receivewal"), [])
        self.assertIn("not understood", self.read("tmp/problem-wal"))

    def test_a_base_backup_that_fails_is_reported_and_not_tried_again_at_once(self):
        self.write("fail", "")
        self.serve()
        self.start()
        self.eventually(lambda: os.path.exists(self.path("tmp/problem-backup")))
        self.assertEqual(self.read("tmp/problem-backup"), "it is broken")
        time.sleep(1)
        self.assertEqual(len(self.backups()), 1)

    def test_a_verb_that_asks_for_the_lock_gets_it_and_receiving_goes_on_afterwards(self):
        self.serve()
        self.start()
        self.eventually(lambda: "is complete" in self.read("log"))
        sys.path.insert(0, IMAGE)
        from pgs_backup import layout, wal

        with unittest.mock.patch.object(layout, "SCRATCH", self.path("tmp")):
            with wal.receiving_paused(layout.Folders("tenant-acme", self.path("barman"))):
                time.sleep(2)
                self.assertEqual(len(self.calls("pg_receivewal")), 1)
        self.eventually(lambda: len(self.calls("pg_receivewal")) == 2)

    def test_of_a_tenant_that_is_back_a_base_backup_is_due(self):
        self.write("barman/retired.json", '{"at": 1, "retention": 7}')
        os.makedirs(self.path("barman/tenant-acme/meta"))
        self.write("barman/tenant-acme/meta/20991230T000000-backup.info", "status=DONE\n")
        self.serve()
        self.start()
        self.eventually(lambda: len(self.backups()) == 1)
        self.assertFalse(os.path.exists(self.path("barman/retired.json")))
        self.eventually(lambda: not os.path.exists(self.path("barman/due.json")))

    def test_a_flood_of_errors_does_not_fill_the_log(self):
        self.script(
            "bin/pg_receivewal",
            "#!/bin/sh\ntrap 'exit 0' INT\nwhile :; do echo error error error >&2; done\n",
        )
        self.serve()
        self.start()
        time.sleep(2)
        self.assertLess(len(self.read("log").splitlines()), 80)
        self.assertLess(self.stop(), 5)
