import os
import tempfile
import time
import unittest
from unittest import mock

from pgs_backup import layout, server

WELL = {"system": "7412", "current": "000000010000000000000005", "slot": None}


class Commands(unittest.TestCase):
    def run_bounded(self, script, deadline=10, limit=1000):
        return server.run_bounded(["sh", "-c", script], {"PATH": "/usr/bin:/bin"}, deadline, limit)

    def test_an_answer_is_its_code_and_both_streams(self):
        self.assertEqual(self.run_bounded("echo out; echo err >&2; exit 3"), (3, b"out\n", b"err\n"))

    def test_one_that_never_ends_is_ended(self):
        begun = time.monotonic()
        self.assertIsNone(self.run_bounded("exec sleep 60", deadline=0.2))
        self.assertLess(time.monotonic() - begun, 5)

    def test_one_that_floods_is_ended(self):
        begun = time.monotonic()
        self.assertIsNone(self.run_bounded("exec yes"))
        self.assertLess(time.monotonic() - begun, 5)

    def test_it_gets_no_environment_but_its_own(self):
        with mock.patch.dict(os.environ, {"PGHOST": "elsewhere"}):
            self.assertEqual(self.run_bounded("echo ${PGHOST-none}")[1], b"none\n")


class Session(unittest.TestCase):
    def environment(self, version):
        with tempfile.TemporaryDirectory() as data, mock.patch.object(layout, "DATA", data):
            folder = os.path.join(data, version, "docker")
            os.makedirs(folder)
            with open(os.path.join(folder, "PG_VERSION"), "w") as file:
                file.write(version + "\n")
            return server.environment()

    def test_a_session_does_not_depend_on_settings_of_its_role(self):
        options = self.environment("18")["PGOPTIONS"]
        for setting in (
            "search_path=pg_catalog",
            "statement_timeout=60s",
            "lock_timeout=10s",
            "event_triggers=off",
        ):
            self.assertIn(f"-c {setting}", options)

    def test_a_version_without_the_switch_for_event_triggers_is_not_asked_for_it(self):
        self.assertNotIn("event_triggers", self.environment("16")["PGOPTIONS"])

    def test_no_file_in_the_volume_is_a_configuration(self):
        environment = self.environment("18")
        for name in ("HOME", "PGPASSFILE", "PGSERVICEFILE", "PGSYSCONFDIR"):
            self.assertTrue(environment[name].startswith("/nonexistent"), name)


class Databases(unittest.TestCase):
    """psql is a script that knows some databases."""

    def ask(self, there, script="echo $database", **options):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "psql")
            with open(path, "w") as file:
                file.write(
                    "#!/bin/sh\n"
                    "for argument; do case $argument in host=*) database=${argument#*dbname=} ;; esac; done\n"
                    "database=${database%% *}\n"
                    f'case " {there} " in *" $database "*) {script}; exit ;; esac\n'
                    'echo "no database $database" >&2; exit 2\n'
                )
            os.chmod(path, 0o755)
            with mock.patch.dict(os.environ, {"PATH": f"{folder}:{os.environ['PATH']}"}):
                return server.ask("SELECT 1", **options)

    def test_the_second_answers_without_the_first(self):
        self.assertEqual(self.ask("postgres template1"), "postgres")
        self.assertEqual(self.ask("template1"), "template1")

    def test_without_any_the_first_says_why(self):
        with self.assertRaisesRegex(layout.Failure, "no database postgres$"):
            self.ask("")

    def test_a_question_that_fails_is_not_asked_twice(self):
        with self.assertRaisesRegex(layout.Failure, "in postgres$"):
            self.ask("postgres template1", 'echo "in $database" >&2; exit 1')

    def test_a_base_backup_enters_the_one_that_answers(self):
        for answer, entered in (("template1", "template1"), ("x; host=evil", "postgres")):
            with mock.patch.object(server, "ask", return_value=answer):
                self.assertEqual(server.database(), entered)


class Answers(unittest.TestCase):
    def test_a_server_without_a_slot_begins_with_what_it_writes_now(self):
        state = server.State(WELL)
        self.assertEqual((state.has_slot, state.first), (False, WELL["current"]))

    def test_a_slot_says_what_comes_first(self):
        slot = {"status": "reserved", "restart": "000000010000000000000003", "active": True}
        state = server.State({**WELL, "slot": slot})
        self.assertEqual((state.first, state.slot_active), (slot["restart"], True))
        unused = server.State({**WELL, "slot": {"status": "unused", "restart": None, "active": False}})
        self.assertEqual(unused.first, WELL["current"])

    def test_an_odd_answer_is_a_failure(self):
        for answer in (None, [], {}, {**WELL, "system": "$(id)"}, {**WELL, "current": "../x"}):
            with self.assertRaises(layout.Failure):
                server.State(answer)

    def test_a_flood_of_brackets_is_a_failure(self):
        with mock.patch.object(server, "ask", return_value="[" * 60_000), self.assertRaises(layout.Failure):
            server.state()

    def test_what_is_behind_is_a_number_or_unknown(self):
        for answer, behind in (("12", 12), ("-3", 0), ("", None), ("1e9", None), ("9" * 400, None)):
            with mock.patch.object(server, "ask", return_value=answer):
                self.assertEqual(server.bytes_behind(), behind, answer)

    def test_text_for_the_log_has_no_control_characters(self):
        self.assertEqual(
            server.plain(b"\x1b]0;title\x07 a\nb \xff"), "]0;title a b \N{REPLACEMENT CHARACTER}"
        )
