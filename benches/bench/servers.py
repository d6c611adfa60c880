"""Servers and their load generators: the server in a sandbox and the load from outside, and both in one sandbox."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

from . import ENVIRONMENT, OUT, PATIENCE, run
from .rows import Benchmark, Row

# Seconds for a server to listen, or to end.
SOON = 20
CONNECTIONS = 8


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process):
    """Ends a command and what it has started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(SOON)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


class Server(Benchmark):
    """Requests a second; `server` and `load` are functions from a port (and a folder) to commands."""

    def __init__(self, name, labels, tools, server, load, rates):
        rows = [Row(label, "/s", 1, limit=0.6, more_is_better=True) for label in labels]
        super().__init__(name, rows)
        self.tools = [*tools, "bash"]
        self.server, self.load, self.rates = server, load, rates

    def is_possible(self):
        missing = [tool for tool in self.tools if shutil.which(tool, path=ENVIRONMENT["PATH"]) is None]
        if missing:
            print(f"{self.name}: {', '.join(missing)} not installed, left out", file=sys.stderr)
        return not missing

    def folder(self):
        folder = OUT / "work" / self.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def measure(self, peer):
        folder, port = self.folder(), free_port()
        server = peer.command(self.server(port, folder), folder=folder, host_network=True)
        quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(server, cwd=folder, env=ENVIRONMENT, start_new_session=True, **quiet)
        try:
            until = time.monotonic() + SOON
            while not listens(port):
                if process.poll() is not None or time.monotonic() > until:
                    return None
                time.sleep(0.02)
            result = run(self.load(port), folder)
        finally:
            end(process)
        return self.rates(result.stdout) if result is not None and result.returncode == 0 else None


class Inside(Server):
    """The same with the load generator in the same sandbox, which has a network of its own."""

    def __init__(self, of):
        super().__init__(of.name + "_inside", [], of.tools, of.server, of.load, of.rates)
        label = lambda row: row.label.replace("load from outside", "load inside as well")
        self.rows = [Row(label(row), row.unit, row.divisor, more_is_better=True) for row in of.rows]

    def measure(self, peer):
        if not peer.follows_exec:
            return None
        folder, port = self.folder(), free_port()
        words = lambda command: shlex.join(str(word) for word in command)
        script = (
            f"{words(self.server(port, folder))} > /dev/null 2>&1 & server=$!\n"
            f"until (: > /dev/tcp/127.0.0.1/{port}) 2> /dev/null; do sleep 0.05; done\n"
            f"{words(self.load(port))}; kill $server; wait $server; exit 0\n"
        )
        result = run(peer.command(["bash", "-c", script], folder=folder), folder)
        return self.rates(result.stdout) if result is not None else None


def redis_server(port, _folder):
    return ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]


def redis_load(port):
    return ["redis-benchmark", "-p", port, "-n", 30000, "-c", CONNECTIONS, "-t", "set,get", "--csv"]


def redis_rates(output):
    found = dict(re.findall(r'^"(SET|GET)","([\d.]+)"', output, re.MULTILINE))
    return [float(found["GET"]), float(found["SET"])] if len(found) == 2 else None


NGINX = """
daemon off; pid nginx.pid; error_log stderr; worker_processes 1; {user}
events {{ worker_connections 256; }}
http {{
    access_log off; keepalive_requests 1000000;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""


def nginx_server(port, folder):
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(NGINX.format(port=port, folder=folder, user=user))
    (folder / "page.html").write_text("x" * 1024)
    return ["nginx", "-p", folder, "-c", "nginx.conf", "-e", "stderr"]


def nginx_load(port):
    return ["wrk", "-t1", f"-c{CONNECTIONS}", "-d2s", f"http://127.0.0.1:{port}/page.html"]


def nginx_rates(output):
    found = re.search(r"^Requests/sec: +([\d.]+)", output, re.MULTILINE)
    failed = re.search(r"Non-2xx", output)
    return [float(found[1])] if found and not failed and float(found[1]) > 0 else None


_REDIS = Server(
    "redis",
    ["redis, GET, load from outside", "redis, SET, load from outside"],
    ["redis-server", "redis-benchmark"],
    redis_server,
    redis_load,
    redis_rates,
)
_NGINX = Server("nginx", ["nginx, 1 KiB file, load from outside"], ["nginx", "wrk"], nginx_server, nginx_load, nginx_rates)
SERVERS = [_REDIS, _NGINX, Inside(_REDIS), Inside(_NGINX)]
