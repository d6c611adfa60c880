"""Compressed pages. Of picovisor alone: what others swap is the host's affair."""

import os
import re
import subprocess

from . import ENVIRONMENT, OUT, PATIENCE
from .rows import Benchmark, Row

# Pages that must have been compressed for the rest to say anything.
FEWEST = 16384


class Compressed(Benchmark):
    """A program's pages are compressed on request, and then touched in some order."""

    def __init__(self, name, label, order, *more_rows):
        super().__init__(name, [Row(label, "µs", 1e3), *more_rows])
        self.order = order

    def measure(self, peer):
        if not peer.is_picovisor:
            return None
        name = f"bench-{os.getpid()}"
        program = peer.command([OUT / "compressed", self.order], options=["--name", name])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": ENVIRONMENT}
        with subprocess.Popen(program, cwd=OUT, text=True, **pipes) as child:
            if child.stdout.readline() != "ready\n":
                return None
            report = subprocess.run(
                [peer.executable, "compress", name], capture_output=True, text=True, env=ENVIRONMENT
            )
            touched, _ = child.communicate("go\n", timeout=PATIENCE)
        found = re.match(r"(\d+) pages compressed.*; (\d+) ms", report.stdout)
        if child.returncode != 0 or found is None or int(found[1]) < FEWEST:
            return None
        return [float(touched), float(found[2]) * 1e6 / float(found[1])][: len(self.rows)]


COMPRESSED = [
    Compressed("compressed_sequence", "touch of a compressed page, in sequence", "sequence"),
    Compressed(
        "compressed_random",
        "touch of a compressed page, in random order",
        "random",
        Row("compression of a 4 KiB page, 4 : 1", "µs", 1e3),
    ),
]
