#!/usr/bin/env -S python3 -I
"""What the Docker engine, the host and the backups know of a stack, as metrics for Prometheus.

    GET /metrics    of the stack and of each of its tenants
    GET /targets    the tenants whose servers are to be asked, for Prometheus's service discovery

The engine is asked in the background: what costs little every few seconds, what costs more at a rate that does not grow
with the number of tenants. It is asked for facts alone, and the one command that runs in a container is that of its backups.
What comes from a container may be a tenant's: it is bounded, and read as data. Which tenants there are is in the proxy's routes.

    monitoring_collector.py STACK STACK-LABEL PROXY PORT ROUTES-FOLDER TRIALS-FOLDER [HASTE]

HASTE divides the seconds between two looks, for tests.
"""

import contextlib
import datetime
import http.client
import json
import os
import re
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 9101
SOCKET = "/var/run/docker.sock"
# Seconds between two looks at all containers, at one server, and at what changes once a day.
LIST, SERVER, SLOW = 5, 60, 300
# Seconds between two commands in backup containers, of all tenants together: each costs a fifth of a second of a core.
COMMAND = 3
# Seconds that a command may take, and bytes that it may print.
PATIENCE, MOST = 10, 1 << 20
TENANT = re.compile(r"[a-z][a-z0-9-]{0,47}\Z")

GAUGE, COUNTER = "gauge", "counter"
# By name: its type and what it is.
METRICS = {
    "pgs_tenant_info": (GAUGE, "1; its labels say how the tenant is set, and its state"),
    "pgs_server_up": (GAUGE, "Whether the server's container runs"),
    "pgs_server_started_timestamp_seconds": (GAUGE, "When the server's container was started"),
    "pgs_server_restarts_total": (COUNTER, "Restarts of the server's container by the engine"),
    "pgs_server_oom_kills_total": (COUNTER, "Times that the server met its memory limit and lost a process"),
    "pgs_server_memory_bytes": (GAUGE, "Memory of the server, without the file cache that can be given back"),
    "pgs_server_memory_limit_bytes": (GAUGE, "Its hard limit"),
    "pgs_server_cpu_seconds_total": (COUNTER, "Processor time of the server"),
    "pgs_server_cpu_limit_cores": (GAUGE, "Processors that it may use"),
    "pgs_backup_exposure_seconds": (
        GAUGE,
        "Seconds whose commits would be lost with the server's volume now",
    ),
    "pgs_backup_base_timestamp_seconds": (
        GAUGE,
        "When the newest usable base backup was begun; 0 without one",
    ),
    "pgs_backup_first_recoverable_timestamp_seconds": (GAUGE, "The earliest time that can be restored"),
    "pgs_backup_size_bytes": (GAUGE, "Base backups and WAL on the host"),
    "pgs_backup_checked_timestamp_seconds": (GAUGE, "When the backups were last asked, and answered"),
    "pgs_trial_timestamp_seconds": (GAUGE, "When a restore was last tried"),
    "pgs_trial_success": (GAUGE, "Whether it worked"),
    "pgs_trial_duration_seconds": (GAUGE, "How long it took until the restored server was ready"),
    "pgs_offsite_lag_seconds": (GAUGE, "Age of the newest state of which all WAL is at the destination"),
    "pgs_drift_found": (GAUGE, "Whether the last search for drift found some, or could not compare"),
    "pgs_drift_checked_timestamp_seconds": (GAUGE, "When that was"),
    "pgs_host_disk_size_bytes": (GAUGE, "File system that the engine's volumes are on"),
    "pgs_host_disk_free_bytes": (GAUGE, "What is free there for unprivileged users"),
    "pgs_host_memory_bytes": (GAUGE, "Memory of the Docker host"),
    "pgs_host_memory_promised_bytes": (GAUGE, "The memory limits of the stack's servers together"),
    "pgs_host_memory_available_bytes": (GAUGE, "Memory that can be had without swapping"),
    "pgs_certificate_not_after_timestamp_seconds": (GAUGE, "Until when the proxy's certificate is valid"),
    "pgs_relay_up": (GAUGE, "Whether the container runs by which the exporter logs in"),
    "pgs_collector_engine_up": (GAUGE, "Whether the Docker engine answered the last time"),
}


def warn(text):
    print(text[:500], file=sys.stderr, flush=True)


class Engine:
    """The Docker engine, by its socket. https://docs.docker.com/reference/api/engine/version/v1.41/"""

    def __init__(self, path=SOCKET):
        self.path = path

    @contextlib.contextmanager
    def request(self, method, path, body=None, seconds=PATIENCE):
        connection = http.client.HTTPConnection("docker", timeout=seconds)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(seconds)
        try:
            connection.sock.connect(self.path)
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, f"/v1.41{path}", None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            if response.status >= 300:
                raise OSError(f"{method} {path}: {response.status}")
            yield response
        except http.client.HTTPException as error:
            raise OSError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()

    def get(self, path, **query):
        text = "&".join(
            f"{name}={urllib.parse.quote(value if isinstance(value, str) else json.dumps(value))}"
            for name, value in query.items()
        )
        with self.request("GET", f"{path}?{text}") as response:
            return response.read(64 << 20)

    def containers(self, stack):
        return json.loads(self.get("/containers/json", all="1", filters={"label": [f"pgs.stack={stack}"]}))

    def inspect(self, container):
        return json.loads(self.get(f"/containers/{container}/json"))

    def stats(self, container):
        return json.loads(self.get(f"/containers/{container}/stats", stream="false", **{"one-shot": "true"}))

    def events(self, stack, since, until):
        filters = {"type": ["container"], "event": ["oom"], "label": [f"pgs.stack={stack}"]}
        lines = self.get("/events", since=f"{since:.9f}", until=f"{until:.9f}", filters=filters)
        return [json.loads(line) for line in lines.splitlines() if line]

    def run(self, container, command):
        """Its standard output. In the container, a tenant's code may run: time and output have an end here too."""
        limited = ["timeout", "-k", "2", str(PATIENCE - 2), *command]
        body = {"Cmd": limited, "AttachStdout": True, "AttachStderr": False}
        with self.request("POST", f"/containers/{container}/exec", body) as response:
            made = json.loads(response.read(MOST))["Id"]
        until = time.monotonic() + PATIENCE
        with self.request("POST", f"/exec/{made}/start", {"Detach": False, "Tty": False}) as response:
            output = b""
            while time.monotonic() < until:
                head = response.read(8)
                if len(head) < 8:
                    return output
                (length,) = struct.unpack("!4xI", head)
                if len(output) + length > MOST:
                    raise OSError("the answer is too long")
                output += response.read(length)
        raise OSError("no answer in time")


def whole(value):
    """A number of an answer that is not trusted."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**63:
        raise ValueError("not a number")
    return value


def timestamp(text):
    """Of the engine's RFC 3339 with nanoseconds."""
    text = re.sub(r"(\.\d{1,6})\d*", r"\1", text).replace("Z", "+00:00")
    return datetime.datetime.fromisoformat(text).timestamp()


def tenants_in(folder):
    """By id, what the first line of a tenant's route says to monitoring."""
    found = {}
    for entry in os.scandir(folder):
        if not re.fullmatch(r"route-.*\.yml", entry.name):
            continue
        try:
            with open(entry.path, encoding="utf-8") as file:
                line = file.readline(4096)
            if line.startswith("# monitoring: "):
                tenant = json.loads(line[len("# monitoring: ") :])
                if TENANT.match(tenant["tenant"]):
                    found[tenant["tenant"]] = tenant
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def server_metrics(info, stats):
    host, state = info["HostConfig"], info["State"]
    found = {
        "pgs_server_restarts_total": info.get("RestartCount", 0),
        "pgs_server_memory_limit_bytes": host.get("Memory", 0),
        "pgs_server_cpu_limit_cores": host.get("NanoCpus", 0) / 1e9,
    }
    if not state["Running"]:
        return found
    found["pgs_server_started_timestamp_seconds"] = timestamp(state["StartedAt"])
    memory = stats.get("memory_stats", {})
    if "usage" in memory:
        more = memory.get("stats", {})
        # Control groups of version 2, and of version 1.
        cache = (
            more.get("inactive_file", 0) if "total_inactive_file" not in more else more["total_inactive_file"]
        )
        found["pgs_server_memory_bytes"] = max(0, memory["usage"] - cache)
    found["pgs_server_cpu_seconds_total"] = stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
    return found


def backup_metrics(status, first, now):
    """Of what a tenant's backup container says of itself."""
    behind, wal = status["behind"], whole(status["wal"])
    since = whole(status["since"])
    found = {
        "pgs_backup_base_timestamp_seconds": whole(status["base"]),
        "pgs_backup_size_bytes": whole(status["size"]),
        "pgs_backup_checked_timestamp_seconds": now,
    }
    # Of a server that wrote nothing since the last WAL came, nothing would be lost.
    if behind is not None and whole(behind) == 0:
        found["pgs_backup_exposure_seconds"] = 0
    elif wal or since:
        found["pgs_backup_exposure_seconds"] = max(0, now - (wal or since))
    if first:
        found["pgs_backup_first_recoverable_timestamp_seconds"] = first
    return found


def first_recoverable(tenant, sets):
    """When the oldest usable base backup was complete; None without one."""
    own = [one for one in sets["sets"] if one["name"] == tenant]
    ends = [whole(backup["end"]) for one in own for backup in one["backups"] if backup["usable"] is True]
    return min((end for end in ends if end), default=None)


def trials_in(folder):
    found = {}
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return found
    for entry in entries:
        tenant = entry.name.removesuffix(".json")
        try:
            with open(entry.path, encoding="utf-8") as file:
                trial = json.loads(file.read(65536))
            found[tenant] = {
                "pgs_trial_timestamp_seconds": whole(trial["at"]),
                "pgs_trial_success": 1 if trial["ok"] is True else 0,
                "pgs_trial_duration_seconds": whole(trial["seconds"]),
            }
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def drift_in(folder):
    """Of the stack, by ./pgs preview --note-drift."""
    try:
        with open(os.path.join(folder, "--drift.json"), encoding="utf-8") as file:
            drift = json.loads(file.read(65536))
        return {
            "pgs_drift_found": 0 if drift["found"] is False else 1,
            "pgs_drift_checked_timestamp_seconds": whole(drift["at"]),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def not_after(certificate):
    """The end of a certificate's validity (RFC 5280, 4.1.2.5), in DER; None where there is none."""
    clock = rb"(?:\x17\x0d(\d{12}Z)|\x18\x0f(\d{14}Z))"
    found = re.search(rb"\x30[\x1e-\x22]" + clock + clock, certificate, re.DOTALL)
    if not found:
        return None
    short, full = found[3], found[4]
    # Years of two digits are those from 1950 to 2049.
    text = full or ((b"20" if short[:2] < b"50" else b"19") + short)
    moment = datetime.datetime.strptime(text.decode(), "%Y%m%d%H%M%SZ")
    return moment.replace(tzinfo=datetime.UTC).timestamp()


def shown_certificate(proxy, port, host):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    tls.set_alpn_protocols(["postgresql"])
    with socket.create_connection((proxy, port), timeout=5) as connection:
        connection.sendall(struct.pack("!ii", 8, 80877103))
        if connection.recv(1) != b"S":
            return None
        with tls.wrap_socket(connection, server_hostname=host) as wrapped:
            return not_after(wrapped.getpeercert(binary_form=True))


def host_memory(path="/proc/meminfo"):
    with open(path, encoding="ascii") as file:
        sizes = {name: int(value) * 1024 for name, value in re.findall(r"(\w+): +(\d+) kB", file.read())}
    return {
        "pgs_host_memory_bytes": sizes["MemTotal"],
        "pgs_host_memory_available_bytes": sizes["MemAvailable"],
    }


def host_disk(path):
    disk = os.statvfs(path)
    return {
        "pgs_host_disk_size_bytes": disk.f_blocks * disk.f_frsize,
        "pgs_host_disk_free_bytes": disk.f_bavail * disk.f_frsize,
    }


def quoted(value):
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def number(value):
    return repr(float(value)) if isinstance(value, float) else str(value)


def exposition(series):
    """Text for Prometheus. @param series (name, labels, value) in any order"""
    by_name = {}
    for name, labels, value in series:
        text = ",".join(f"{label}={quoted(content)}" for label, content in labels.items())
        by_name.setdefault(name, []).append(f"{name}{{{text}}} {number(value)}")
    lines = []
    for name, (kind, help_text) in METRICS.items():
        if name in by_name:
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", *by_name[name]]
    return "\n".join(lines) + "\n"


class Collector:
    def __init__(self, stack, label, proxy, port, routes, trials, haste="1", engine=None):
        self.stack, self.label, self.proxy, self.port = stack, label, proxy, int(port)
        self.haste = float(haste)
        self.routes, self.trials_folder = routes, trials
        self.engine = engine or Engine()
        self.containers, self.engine_up = [], False
        # By tenant id.
        self.servers, self.backups, self.copies, self.oom_kills = {}, {}, {}, {}
        self.first, self.due = {}, {}
        self.trials, self.drift, self.certificate = {}, {}, None
        self.asked_until = time.time()

    # --- in the background ---

    def look(self):
        """All containers, and what happened since: two requests."""
        self.containers = self.engine.containers(self.label)
        now = time.time()
        for event in self.engine.events(self.label, self.asked_until, now):
            attributes = event.get("Actor", {}).get("Attributes", {})
            tenant = attributes.get("pgs.tenant")
            if attributes.get("pgs.role") == "server" and tenant:
                self.oom_kills[tenant] = self.oom_kills.get(tenant, 0) + 1
        self.asked_until = now

    def of_role(self, role):
        """The stack's containers by tenant."""
        return {
            one["Labels"].get("pgs.tenant", ""): one
            for one in list(self.containers)
            if one["Labels"].get("pgs.role") == role
        }

    def look_at_server(self, tenant, container):
        info = self.engine.inspect(container["Id"])
        stats = self.engine.stats(container["Id"]) if info["State"]["Running"] else {}
        self.servers[tenant] = server_metrics(info, stats)

    def look_at_backups(self, tenant, container):
        """A second command only where there is another base backup than before."""
        answer = json.loads(self.engine.run(container["Id"], ["pgs-backup", "status", "--tenant", tenant]))
        now = time.time()
        base, known = whole(answer["base"]), self.first.get(tenant)
        if base and (not known or known[0] != base):
            sets = json.loads(self.engine.run(container["Id"], ["pgs-backup", "list", "--tenant", tenant]))
            self.first[tenant] = (base, first_recoverable(tenant, sets))
        self.backups[tenant] = backup_metrics(answer, self.first.get(tenant, (0, None))[1], now)

    def look_at_copies(self, container):
        answer = json.loads(self.engine.run(container["Id"], ["pgs-offsite", "status"]))
        now = time.time()
        self.copies = {
            one["tenant"]: {"pgs_offsite_lag_seconds": max(0, now - whole(one["wal"]))}
            for one in answer["tenants"]
            if one["wal"]
        }

    def look_at_certificate(self):
        for tenant in tenants_in(self.routes).values():
            if tenant.get("state") == "running" and tenant.get("tls") == "terminate":
                self.certificate = shown_certificate(self.proxy, self.port, tenant["host"])
                return
        self.certificate = None

    def is_due(self, what, seconds):
        now = time.monotonic()
        if now < self.due.get(what, 0):
            return False
        self.due[what] = now + seconds / self.haste
        return True

    def attempt(self, what, act, *arguments):
        try:
            act(*arguments)
            return True
        except (OSError, ValueError, KeyError, TypeError, ssl.SSLError) as error:
            warn(f"{what}: {error!r}")
            return False

    def round(self):
        if self.is_due("list", LIST):
            self.engine_up = self.attempt("containers", self.look)
        running = self.of_role("server")
        for gone in set(self.servers) - set(running):
            self.servers.pop(gone, None)
        for tenant, container in running.items():
            # Another state, or another container, is looked at again at once.
            key = ("server", tenant, container["Id"], container["State"])
            if self.is_due(key, SERVER):
                self.attempt(f"server of {tenant}", self.look_at_server, tenant, container)
        self.due = {key: at for key, at in self.due.items() if at > time.monotonic() - 2 * SLOW}

    def slow_round(self):
        if self.is_due("trials", SLOW / 10):
            self.trials, self.drift = trials_in(self.trials_folder), drift_in(self.trials_folder)
        if self.is_due("certificate", SLOW):
            seen = self.attempt("certificate", self.look_at_certificate)
            # Of a new stack, no tenant is there yet.
            if not seen or self.certificate is None:
                self.due["certificate"] = time.monotonic() + 15
        for container in self.of_role("offsite").values():
            if container["State"] == "running" and self.is_due("offsite", SLOW):
                self.attempt("copies", self.look_at_copies, container)
        containers = self.of_role("backup")
        for gone in set(self.backups) - set(containers):
            self.backups.pop(gone, None)
            self.first.pop(gone, None)
        spread = max(SLOW, COMMAND * len(containers))
        for tenant, container in containers.items():
            if container["State"] != "running" or not self.is_due(
                ("backup", tenant, container["Id"]), spread
            ):
                continue
            answered = self.attempt(f"backups of {tenant}", self.look_at_backups, tenant, container)
            found = self.backups.get(tenant, {})
            # A new tenant's first base backup takes some seconds.
            without_base = not found.get("pgs_backup_base_timestamp_seconds")
            # A commit after a long silence that was on its way at this moment looks like a long exposure.
            exposed = found.get("pgs_backup_exposure_seconds", 0) > 60
            if not answered or without_base or exposed:
                self.due[("backup", tenant, container["Id"])] = time.monotonic() + 20 / self.haste
            return

    def repeat(self, act, seconds):
        def run():
            while True:
                self.attempt("round", act)
                time.sleep(seconds)

        threading.Thread(target=run, daemon=True).start()

    # --- for Prometheus ---

    def state_of(self, tenant, wanted, server):
        restores = [
            one
            for one in list(self.containers)
            if one["Labels"].get("pgs.tenant") == tenant and one["Names"][0].endswith("--restore")
        ]
        if restores:
            return "restoring"
        if wanted == "stopped":
            return "stopped"
        return "running" if server and server["State"] == "running" else "incomplete"

    def series(self):
        of_stack = {"stack": self.stack}
        found = [("pgs_collector_engine_up", of_stack, int(self.engine_up))]
        servers = self.of_role("server")
        promised = 0
        for tenant, declared in sorted(tenants_in(self.routes).items()):
            labels = {"stack": self.stack, "tenant": tenant}
            wanted, server = declared.get("state"), servers.get(tenant)
            state = self.state_of(tenant, wanted, server)
            access = "true" if declared.get("access") is True else "false"
            info = {**labels, "version": declared.get("version"), "state": state, "access": access}
            found.append(("pgs_tenant_info", info, 1))
            if wanted != "stopped":
                up = bool(server and server["State"] == "running")
                of_server = self.servers.get(tenant, {}) if server else {}
                promised += of_server.get("pgs_server_memory_limit_bytes", 0)
                found.append(("pgs_server_up", labels, int(up)))
                found.append(("pgs_server_oom_kills_total", labels, self.oom_kills.get(tenant, 0)))
                if not up:
                    live = ("pgs_server_memory_bytes", "pgs_server_started_timestamp_seconds")
                    of_server = {name: value for name, value in of_server.items() if name not in live}
                found += [(name, labels, value) for name, value in of_server.items()]
            for known in (self.backups, self.trials, self.copies):
                found += [(name, labels, value) for name, value in known.get(tenant, {}).items()]
        of_host = {
            "pgs_host_memory_promised_bytes": promised,
            **host_memory(),
            **host_disk(self.routes),
            **self.drift,
        }
        # Without a look at the containers, nothing is known of it.
        if self.containers:
            of_host["pgs_relay_up"] = int(self.of_role("relay").get("", {}).get("State") == "running")
        if self.certificate:
            of_host["pgs_certificate_not_after_timestamp_seconds"] = self.certificate
        return found + [(name, of_stack, value) for name, value in of_host.items()]

    def targets(self):
        return [
            {"targets": [tenant], "labels": {"stack": self.stack, "tenant": tenant}}
            for tenant, declared in sorted(tenants_in(self.routes).items())
            if declared.get("state") == "running"
        ]


def handler(collector):
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self):
            if self.path == "/metrics":
                self.answer("text/plain; version=0.0.4; charset=utf-8", exposition(collector.series()))
            elif self.path == "/targets":
                self.answer("application/json", json.dumps(collector.targets()))
            else:
                self.send_error(404)

        def answer(self, kind, text):
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def main(*arguments):
    collector = Collector(*arguments)
    collector.repeat(collector.round, 1)
    collector.repeat(collector.slow_round, COMMAND)
    ThreadingHTTPServer(("", PORT), handler(collector)).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
