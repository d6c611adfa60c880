"""Benchmarks of Picovisor and its peers: what is measured (one module a kind), under whom, and how it is shown."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "benches" / "programs"
# Programs, and what they work on.
OUT = ROOT / "target" / "bench"

# Seconds for one run of one benchmark; a peer that needs more gets a dash.
PATIENCE = 120

# What programs see: nothing of whoever runs the benchmarks.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "HOME": str(OUT),
    "LANG": "C.UTF-8",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    # Monitors that are started ahead are a peer of their own.
    "PICOVISOR_SERVE": "off",
    # Where sockets of the user's servers lie; picovisor looks for its own there.
    **{name: os.environ[name] for name in ["XDG_RUNTIME_DIR"] if name in os.environ},
}


def end_in_order():
    """Lets SIGTERM end this process as an error does, which ends what it has started."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def run(command, folder=OUT, environment=ENVIRONMENT):
    """Runs a command to its end; None if that takes too long."""
    command = [str(word) for word in command]
    # Standard input is a pipe: runsc, run by root, gives /dev/null to nobody otherwise, for the whole host.
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, env=environment, text=True, start_new_session=True, **pipes) as process:
        try:
            output, errors = process.communicate("", timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            # With what it has started, which holds the pipes.
            os.killpg(process.pid, signal.SIGKILL)
            return None
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def compile_programs():
    OUT.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    for program, sources, options in [
        ("micro", sorted(SOURCES.glob("micro/*.c")), ["-static"]),
        ("measure", [SOURCES / "measure.c"], ["-static"]),
        ("compressed", [SOURCES / "compressed.c"], ["-static"]),
        ("hello-static", [SOURCES / "hello.c"], ["-static"]),
        ("hello-dynamic", [SOURCES / "hello.c"], []),
    ]:
        command = [compiler, "-O2", "-Wall", "-Wextra", *options, "-o", OUT / program, *sources]
        subprocess.run(command, check=True)
