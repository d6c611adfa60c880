"""A redis server in a sandbox, under load, whose data is compared with a model of it."""

import random
import shutil
import socket
import subprocess
import threading
import time

from . import host
from .servers import end, free_port, listens

KEYS = 5000
# Seconds for the server to listen.
SOON = 60


class Client:
    """As much of redis' protocol as this needs."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.file = self.socket.makefile("rb")

    def send(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))

    def answer(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:].rstrip()
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        raise RuntimeError(f"redis says {line!r}")

    def ask(self, *words):
        self.send(*words)
        return self.answer()


class Redis:
    """The server; a thread that writes, reads and compares; and the figures of both."""

    def __init__(self, sandboxed, folder):
        self.port, self.folder = free_port(), folder
        command = ["redis-server", "--port", str(self.port), "--dir", str(folder), "--save", "", "--appendonly", "yes",
                   "--bind", "127.0.0.1", "--daemonize", "no", "--loglevel", "warning"]
        self.log = open(folder / "redis.log", "wb")
        self.process = subprocess.Popen(sandboxed(command, ["--net", "host", "--rw", str(folder)]), cwd=folder,
                                        stdout=self.log, stderr=self.log, start_new_session=True)
        self.model, self.operations, self.wrong, self.saves = {}, 0, [], 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work)
        deadline = time.monotonic() + SOON
        while not listens(self.port):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"redis does not listen: {(folder / 'redis.log').read_text()}")
            time.sleep(0.1)
        self.early = None
        self.thread.start()

    def work(self):
        try:
            self.play()
        except Exception as error:  # Whatever it is, it is what the soak is to find.
            self.wrong.append(f"redis: {error!r}")

    def play(self):
        client, numbers = Client(self.port), random.Random(1)
        while not self.over.is_set():
            batch = []
            for _ in range(50):
                key = f"key{numbers.randrange(KEYS)}"
                if numbers.random() < 0.5:
                    value = numbers.randbytes(numbers.randrange(2000))
                    client.send("SET", key, value)
                    self.model[key] = value
                    batch.append((key, b"OK"))
                else:
                    client.send("GET", key)
                    batch.append((key, self.model.get(key)))
            for key, expected in batch:
                if client.answer() != expected:
                    self.wrong.append(f"redis: {key} is not what was stored")
            self.operations += len(batch)
            if self.operations % 100_000 == 0:
                # Forks, and writes everything out.
                client.ask("BGREWRITEAOF" if self.operations % 200_000 else "BGSAVE")
                self.saves += 1
            if self.operations == 20_000:
                self.early = host.numbers(self.process.pid)

    def finish(self):
        """Stops, compares all that is stored, lets the server end by itself, and returns figures."""
        self.over.set()
        self.thread.join()
        late = host.numbers(self.process.pid)
        try:
            client = Client(self.port)
            bad = sum(client.ask("GET", key) != value for key, value in self.model.items())
            if bad:
                self.wrong.append(f"redis: {bad} of {len(self.model)} keys are not what was stored")
            client.send("SHUTDOWN", "NOSAVE")
            self.process.wait(60)
        except Exception as error:
            self.wrong.append(f"redis at its end: {error!r}")
        end(self.process)
        if self.process.returncode:
            self.wrong.append(f"redis ended with {self.process.returncode}")
        self.log.close()
        return {"operations": self.operations, "saves": self.saves, "keys": len(self.model), "early": self.early, "late": late}


def missing():
    """What is not installed."""
    return [tool for tool in ["redis-server"] if shutil.which(tool) is None]
