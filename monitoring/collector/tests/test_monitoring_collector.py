import json
import os
import ssl
import subprocess
import tempfile
import time
import unittest

import monitoring_collector as collector

ROUTE = {"tenant": "acme", "host": "acme.pgs.localhost", "version": 18, "state": "running", "access": True}


def write(folder, name, text):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


class FakeEngine:
    def __init__(self):
        self.answers = {}
        self.commands = []
        self.oom = []
        self.relay = "running"

    def containers(self, _stack):
        def one(name, state="running", **labels):
            labels = {f"pgs.{label}": value for label, value in labels.items()}
            return {"Id": name, "Names": [f"/{name}"], "State": state, "Labels": labels}

        return [
            one("pgs-acme", tenant="acme", role="server"),
            one("pgs-acme--backup", tenant="acme", role="backup"),
            one("pgs--relay", self.relay, role="relay"),
        ]

    def events(self, *_):
        found, self.oom = self.oom, []
        return found

    def inspect(self, _container):
        state = {"Running": True, "StartedAt": "2026-11-27T20:00:00.123456789Z"}
        return {"HostConfig": {"Memory": 1 << 29, "NanoCpus": 2 * 10**9}, "State": state, "RestartCount": 3}

    def stats(self, _container):
        memory = {"usage": 100, "stats": {"inactive_file": 30}}
        return {"memory_stats": memory, "cpu_stats": {"cpu_usage": {"total_usage": 5 * 10**9}}}

    def run(self, _container, command):
        self.commands.append(command)
        return self.answers[command[1]]


class CollectorTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.routes = os.path.join(folder.name, "routes")
        self.trials = os.path.join(folder.name, "trials")
        os.mkdir(self.routes)
        os.mkdir(self.trials)
        self.note(ROUTE)
        self.engine = FakeEngine()
        self.collector = collector.Collector(
            "dev", "dev-1", "proxy", "5433", self.routes, self.trials, engine=self.engine
        )

    def note(self, route):
        write(self.routes, "route-acme.yml", f"# monitoring: {json.dumps(route)}\ntcp: {{}}\n")

    def found(self):
        return {
            name: value for name, labels, value in self.collector.series() if labels.get("tenant") == "acme"
        }

    def test_knows_whether_the_relay_runs_once_it_has_looked(self):
        def up():
            return [value for name, _, value in self.collector.series() if name == "pgs_relay_up"]

        self.assertEqual(up(), [])
        self.collector.look()
        self.assertEqual(up(), [1])
        self.engine.relay = "exited"
        self.collector.look()
        self.assertEqual(up(), [0])

    def test_tells_of_a_server_what_the_engine_knows(self):
        self.engine.oom = [{"Actor": {"Attributes": {"pgs.tenant": "acme", "pgs.role": "server"}}}]
        self.collector.round()
        found = self.found()
        self.assertEqual(found["pgs_server_up"], 1)
        self.assertEqual(found["pgs_server_memory_bytes"], 70)
        self.assertEqual(found["pgs_server_cpu_seconds_total"], 5)
        self.assertEqual(found["pgs_server_cpu_limit_cores"], 2)
        self.assertEqual(found["pgs_server_restarts_total"], 3)
        self.assertEqual(found["pgs_server_oom_kills_total"], 1)
        self.assertAlmostEqual(found["pgs_server_started_timestamp_seconds"] % 60, 0.123456, 5)

    def test_tells_that_a_server_is_gone_and_nothing_of_what_it_used(self):
        self.collector.round()
        self.collector.containers = []
        found = self.found()
        self.assertEqual(found["pgs_server_up"], 0)
        self.assertNotIn("pgs_server_memory_bytes", found)
        states = [labels["state"] for name, labels, _ in self.collector.series() if name == "pgs_tenant_info"]
        self.assertEqual(states, ["incomplete"])

    def test_says_of_a_stopped_tenant_that_it_is_stopped_and_asks_nobody_for_it(self):
        self.note({**ROUTE, "state": "stopped"})
        self.collector.containers = []
        self.assertNotIn("pgs_server_up", self.found())
        self.assertEqual(self.collector.targets(), [])

    def test_names_the_tenants_to_ask(self):
        expected = [{"targets": ["acme"], "labels": {"stack": "dev", "tenant": "acme"}}]
        self.assertEqual(self.collector.targets(), expected)

    def test_asks_backups_once_in_a_while_and_lists_them_when_there_is_a_new_one(self):
        status = {"since": 50, "base": 100, "wal": 200, "behind": 0, "size": 7}
        backup = {"end": 120, "usable": True}
        sets = {"sets": [{"name": "acme", "backups": [backup]}, {"name": "acme-1", "backups": []}]}
        self.engine.answers = {"status": json.dumps(status), "list": json.dumps(sets)}
        self.collector.round()
        for _ in range(3):
            self.collector.slow_round()
        self.assertEqual([command[1] for command in self.engine.commands], ["status", "list"])
        found = self.found()
        self.assertEqual(found["pgs_backup_exposure_seconds"], 0)
        self.assertEqual(found["pgs_backup_first_recoverable_timestamp_seconds"], 120)

    def test_looks_again_soon_at_what_seems_to_be_exposed_for_long(self):
        status = {"since": 50, "base": 100, "wal": 200, "behind": 16, "size": 7}
        self.engine.answers = {"status": json.dumps(status), "list": json.dumps({"sets": []})}
        self.collector.round()
        self.collector.slow_round()
        self.assertGreater(self.found()["pgs_backup_exposure_seconds"], 300)
        (due,) = [at for what, at in self.collector.due.items() if what[0] == "backup"]
        self.assertLess(due, time.monotonic() + 21)

    def test_takes_no_odd_answer_of_a_tenants_backups(self):
        good = {"since": 50, "base": 0, "wal": 200, "behind": 0, "size": 7}
        odd = [b"", b"[]", b"{}", json.dumps({**good, "base": "x"}), json.dumps({**good, "size": -1})]
        for answer in [*odd, json.dumps({**good, "wal": True})]:
            self.engine.answers = {"status": answer}
            self.collector.due = {}
            self.collector.round()
            self.collector.slow_round()
            self.assertNotIn("pgs_backup_base_timestamp_seconds", self.found(), answer)

    def test_reads_the_restores_that_were_tried(self):
        write(self.trials, "acme.json", json.dumps({"at": 5, "seconds": 1.5, "ok": False}))
        write(self.trials, "odd.json", "{")
        self.collector.slow_round()
        found = self.found()
        self.assertEqual((found["pgs_trial_success"], found["pgs_trial_duration_seconds"]), (0, 1.5))

    def test_reads_what_the_last_search_for_drift_found(self):
        self.assertEqual(collector.drift_in(self.trials), {})
        write(self.trials, "--drift.json", json.dumps({"at": 7, "found": False}))
        found = {"pgs_drift_found": 0, "pgs_drift_checked_timestamp_seconds": 7}
        self.assertEqual(collector.drift_in(self.trials), found)
        write(self.trials, "--drift.json", "{")
        self.assertEqual(collector.drift_in(self.trials), {})

    def test_has_only_metrics_that_it_describes(self):
        self.collector.round()
        for name, _, _ in self.collector.series():
            self.assertIn(name, collector.METRICS)


class BackupMetricsTest(unittest.TestCase):
    def test_what_would_be_lost_is_as_old_as_the_last_wal(self):
        status = {"since": 50, "base": 100, "wal": 200, "behind": 10, "size": 7}
        self.assertEqual(collector.backup_metrics(status, None, 260)["pgs_backup_exposure_seconds"], 60)
        status["behind"] = None
        self.assertEqual(collector.backup_metrics(status, None, 260)["pgs_backup_exposure_seconds"], 60)


class ExpositionTest(unittest.TestCase):
    def test_escapes_what_labels_may_hold(self):
        text = collector.exposition([("pgs_tenant_info", {"state": 'a"b\\c\nd'}, 1)])
        self.assertEqual(text.splitlines()[-1], 'pgs_tenant_info{state="a\\"b\\\\c\\nd"} 1')


class CertificateTest(unittest.TestCase):
    def test_finds_the_end_of_validity(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "certificate.pem")
            command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"]
            subprocess.run(
                [*command, "-days", "3", "-keyout", os.path.join(folder, "key"), "-out", path],
                check=True,
                capture_output=True,
            )
            with open(path, encoding="ascii") as file:
                found = collector.not_after(ssl.PEM_cert_to_DER_cert(file.read()))
        self.assertAlmostEqual(found, time.time() + 3 * 86400, delta=60)
        self.assertIsNone(collector.not_after(b"nothing"))


if __name__ == "__main__":
    unittest.main()
