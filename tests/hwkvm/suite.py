#!/usr/bin/env python3
"""The smoke suite of the hardware path: vmm's tests and the launcher on a real kvm_amd under emulation.

    suite.py                three machines: Linux 6.12 with two CPUs, Linux 6.1, Linux 6.12 with npt=0
    suite.py 6.1            the one of this name
    suite.py npt=0          those whose names contain the argument
    suite.py --here         the same binaries on this machine's own /dev/kvm

Prints each check that fails, and "N passed, N failed" at the end. Consoles are kept in target/hwkvm/*.log.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import machine

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
# name: kernel, CPUs, kernel parameters
MACHINES = {
    "6.12, two CPUs": ("6.12", 2, []),
    "6.1": ("6.1", 1, []),
    "6.12, npt=0": ("6.12", 1, ["kvm_amd.npt=0"]),
}
TIMEOUT_S = 600
# Of the guest programs in tests/programs, those about traps, memory, signals and time whose native answers are the same
# on all these kernels; checks.sh runs them.
PROGRAMS = [
    "hello", "clocks", "death", "faults", "frames", "getrandom", "mappings", "memory", "signals", "simd", "vdso",
]
# Of vmm's unit tests, those whose names contain one of these depend on the machine.
UNIT_TESTS = ["kvm::", "coherence::", "clock::tests::two_threads", "clock::tests::trapped_calls"]


def built():
    """Has cargo build the tests and the launcher; returns [(target, kind, executable), ...].

    In the ways of `cargo test --workspace`, after which there is nothing left to build.
    """
    command = ["cargo", "test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]
    cargo = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if cargo.returncode != 0:
        sys.exit("suite.py: cargo test --no-run failed")
    for line in cargo.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("executable"):
            yield message["target"], message["profile"]["test"], Path(message["executable"])


def libraries(executable):
    """Returns the paths of the shared libraries that an executable is loaded with."""
    listed = subprocess.run(["ldd", executable], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return {Path(path) for path in re.findall(r"(?<=\s)/\S+(?= \()", listed)}


def make_tree(tree):
    """Fills a folder with what the machines need."""
    for folder in ["tests", "objects", "bin", "programs", "etc"]:
        (tree / folder).mkdir()
    binaries = []
    for target, is_test, executable in built():
        name, kind = target["name"], target["kind"][0]
        if is_test and Path(target["src_path"]).is_relative_to(ROOT / "vmm"):
            binaries.append(tree / "tests" / f"{name}-{kind}")
            if kind == "lib":
                (tree / "tests" / f"{name}-{kind}.filters").write_text(" ".join(UNIT_TESTS))
        elif name == "picovisor" and not is_test:
            binaries.append(tree / "bin" / name)
        else:
            continue
        shutil.copy(executable, binaries[-1])
    for library in set().union(*map(libraries, binaries)):
        (tree / library.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, tree / library.relative_to("/"))
    for program in PROGRAMS:
        source = ROOT / "tests" / "programs" / f"{program}.c"
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O2", "-w", "-static", "-o", tree / "programs" / program, source], check=True)
    subprocess.run(["sh", ROOT / "vmm" / "tests" / "foreign" / "build.sh", tree / "objects"], check=True)
    shutil.copy(HERE / "checks.sh", tree / "checks.sh")
    (tree / "etc" / "words").write_text("".join(f"word {number * 7919 % 1000}\n" for number in range(1000)))
    # Debug information is most of the binaries, and the machine's disk is its memory.
    for binary in binaries:
        subprocess.run(["strip", "--strip-debug", binary], check=True)


def judge(console):
    """Returns (passed, [failed check, ...]) of a console's text."""
    passed, failed, binary, finished = 0, [], None, True
    for line in console.splitlines():
        line = line.strip()
        if line.startswith("binary "):
            binary, finished = line.split()[1], False
        elif match := re.match(r"test result: \w+\. (\d+) passed; (\d+) failed", line):
            passed, finished = passed + int(match[1]), True
        elif match := re.match(r"test (\S+).*\.\.\. FAILED", line):
            failed.append(f"{binary}::{match[1]}")
        elif match := re.match(r"status (\d+) (\S+)", line):
            if not finished:
                failed.append(f"{match[2]} (died with status {match[1]})")
            finished = True
        elif match := re.match(r"pass (\S+)", line):
            passed += 1
        elif match := re.match(r"FAIL (\S+)", line):
            failed.append(match[1])
    if not finished:
        failed.append(f"{binary} (never ended)")
    return passed, failed


class Console:
    """Collects a machine's output in a file."""

    def __init__(self, path):
        self.path = path
        self.file = open(path, "wb")

    def write(self, data):
        self.file.write(data.replace(b"\r\n", b"\n"))

    def flush(self):
        self.file.flush()

    def text(self):
        self.file.close()
        return self.path.read_text(errors="replace")


def run_machine(name, tree):
    kernel, cpus, parameters = MACHINES[name]
    console = Console(machine.CACHE / (re.sub(r"[^0-9a-z.]+", "-", name) + ".log"))
    command = f"THREADS={cpus} sh /checks.sh"
    status = machine.run(kernel, tree, command, cpus, 1536, TIMEOUT_S, parameters, console)
    text = console.text()
    passed, failed = judge(text)
    if status != 0:
        failed.append(f"the machine ended early, see {console.path}")
    return passed, failed


def run_here(tree):
    console = Console(machine.CACHE / "here.log")
    environment = {**os.environ, "ROOT": str(tree), "THREADS": str(os.cpu_count())}
    result = subprocess.run(
        ["sh", tree / "checks.sh"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    )
    console.write(result.stdout)
    return judge(console.text())


def try_on(name, tree):
    """Returns (a line about it, passed, [failed check, ...]) of a machine, or of this one."""
    started = time.monotonic()
    try:
        passed, failed = run_here(tree) if name == "here" else run_machine(name, tree)
    except machine.Unavailable as reason:
        passed, failed = 0, [str(reason)]
    return f"{name}: {passed} passed, {len(failed)} failed, {time.monotonic() - started:.0f} s", passed, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("machine", nargs="?", default="", help="a part of the names of the machines to run")
    parser.add_argument("--here", action="store_true", help="run on this machine's /dev/kvm instead")
    options = parser.parse_args()
    total_passed, total_failed = 0, []
    # Inside the repository's folder: /tmp is private to sandboxes, and --here runs from the tree.
    machine.CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=machine.CACHE) as tree:
        tree = Path(tree)
        tree.chmod(0o755)
        make_tree(tree)
        chosen = [options.machine] if options.machine in MACHINES else [name for name in MACHINES if options.machine in name]
        names = ["here"] if options.here else chosen
        # A machine is one thread of the emulator, whatever CPUs it has.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for report, passed, failed in pool.map(lambda name: try_on(name, tree), names):
                print(report, *failed, sep="\n    ", flush=True)
                total_passed += passed
                total_failed += failed
    print(f"{total_passed} passed, {len(total_failed)} failed")
    sys.exit(1 if total_failed or total_passed == 0 else 0)


if __name__ == "__main__":
    main()
