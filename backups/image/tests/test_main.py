import io
import json
import unittest
from contextlib import redirect_stdout
from unittest import mock

from pgs_backup import __main__ as command
from pgs_backup import verbs
from pgs_backup.layout import Failure


class Arguments(unittest.TestCase):
    def test_options_and_the_rest(self):
        self.assertEqual(
            command.parse(["barman", "--tenant", "acme", "--name", "acme-71", "--", "restore", "--x"]),
            ("barman", {"tenant": "acme", "name": "acme-71"}, ["restore", "--x"]),
        )
        self.assertEqual(
            command.parse(["archive", "--tenant", "a", "--mark"])[1], {"tenant": "a", "mark": True}
        )
        self.assertEqual(command.parse(["archive", "--tenant", "a"])[1], {"tenant": "a"})

    def test_wrong_usage_is_a_failure(self):
        for words in ([], ["frobnicate"], ["status"], ["status", "--tenant"], ["status", "--tenant", "a", "more"],
                      ["run", "--tenant", "a", "--schedule", "02:30"]):  # fmt: skip
            with self.assertRaises(Failure, msg=str(words)):
                command.parse(words)

    def test_days(self):
        self.assertEqual(command.days("7"), 7)
        for text in ("", "0", "-1", "7d", "9" * 30):
            with self.assertRaises(Failure):
                command.days(text)


class Answer(unittest.TestCase):
    def answer(self, *words):
        out = io.StringIO()
        with (
            mock.patch("sys.argv", ["pgs-backup", *words]),
            mock.patch("os._exit", side_effect=SystemExit) as ended,
            redirect_stdout(out),
            self.assertRaises(SystemExit),
        ):
            command.main()
        return json.loads(out.getvalue()), ended.call_args[0][0]

    def test_a_failure_is_a_document_and_an_exit_code(self):
        with mock.patch.object(verbs, "status", side_effect=Failure("it is full")):
            self.assertEqual(self.answer("status", "--tenant", "acme"), ({"error": "it is full"}, 1))
        document, code = self.answer("status", "--tenant", "../acme")
        self.assertEqual((document, code), ({"error": "not a tenant's id"}, 1))

    def test_an_answer_is_one_document(self):
        with mock.patch.object(verbs, "list_sets", return_value={"sets": []}):
            self.assertEqual(self.answer("list", "--tenant", "acme"), ({"sets": []}, 0))
