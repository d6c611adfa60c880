"""Whole commands, from fork to wait: starts, and programs that people run."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import ENVIRONMENT, OUT, run
from .peers import SERVED_AGAIN
from .rows import Benchmark, Row

WALL, CPU, PEAK = ("wall", "ms", 1e6), ("CPU", "ms", 1e6), ("peak RSS", "MiB", 1024)
ALL = (WALL, CPU, PEAK)
# Python itself, without pyenv and other wrappers.
PYTHON = "/usr/bin/python3"
WORK = OUT / "work"


class Command(Benchmark):
    """A command whose output goes nowhere: wall-clock time, of a start also CPU time and peak memory, of the whole."""

    def __init__(self, name, label, program, *, aspects=(WALL,), make=None, executes=False, **bounds):
        rows = [
            Row(f"{label}, {aspect}" if len(aspects) > 1 else label, unit, divisor, **(bounds if aspect == "wall" else {}))
            for aspect, unit, divisor in aspects
        ]
        super().__init__(name, rows)
        # Absolute: not every peer looks for it as a shell does.
        self.program = [shutil.which(str(program[0]), path=ENVIRONMENT["PATH"]) or program[0], *program[1:]]
        self.make = make
        self.executes = executes

    def is_possible(self):
        missing = shutil.which(str(self.program[0]), path=ENVIRONMENT["PATH"]) is None
        if missing and not Path(self.program[0]).is_relative_to(OUT):
            print(f"{self.name}: {self.program[0]} is not installed, left out", file=sys.stderr)
            return False
        return True

    def concerns(self, peer):
        return len(self.rows) > 1 or not peer.is_served

    def folder(self, peer):
        """Where it works: a copy for each peer, so that nobody meets what another left."""
        return WORK / self.name / peer.name.replace(" ", "-")

    def measure(self, peer):
        if self.executes and not peer.follows_exec:
            return None
        folder = OUT
        if self.make is not None:
            folder = self.folder(peer)
            if not folder.exists():
                folder.mkdir(parents=True)
                self.make(folder)
                # Once for the caches, and because git notes in its index what it has seen.
                run(peer.command(self.program, folder=folder), folder)
        writable = folder if self.make is not None else None
        if peer.is_served:
            time.sleep(SERVED_AGAIN)
        result = run([OUT / "measure", *peer.command(self.program, folder=writable)], folder, peer.environment)
        if result is None:
            return None
        words = [int(word) for word in result.stdout.split()]
        return words[: len(self.rows)] if result.returncode == 0 and len(words) == 4 and words[3] == 0 else None

    def prepare(self):
        shutil.rmtree(WORK / self.name, ignore_errors=True)


def git_repository(folder):
    """A repository of 1,000 files in 50 folders, with some history."""
    chance = random.Random(1)
    for number in range(1000):
        file = folder / f"part{number % 50:02}" / f"file{number:04}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(f"line {chance.random()}\n" for _ in range(40)))
    (folder / ".gitignore").write_text("*.o\n/build/\n")
    who = ["-c", "user.name=Benchmark", "-c", "user.email=benchmark@localhost"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "All files"]):
        subprocess.run(["git", *arguments], cwd=folder, env=ENVIRONMENT, check=True)


def hello_source(folder):
    shutil.copy(OUT.parents[1] / "benches" / "programs" / "hello.c", folder / "hello.c")


def c_project(folder):
    """Twenty-four sources of some fifty lines, a header, and a Makefile."""
    parts = [f"part{number:02}" for number in range(24)]
    prototypes = "".join(f"long {part}(const char *text, long seed);\n" for part in parts)
    (folder / "parts.h").write_text("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n" + prototypes)
    for part in parts:
        steps = "".join(f"    if (seed % {n} == 1) seed += strlen(text) * {n}; else seed ^= {n * 7919};\n" for n in range(2, 40))
        body = f"long {part}(const char *text, long seed) {{\n{steps}    return seed;\n}}\n"
        (folder / f"{part}.c").write_text(f'#include "parts.h"\n\n{body}')
    calls = "".join(f'    seed = {part}("{part}", seed);\n' for part in parts)
    main = f'int main(void) {{\n    long seed = 1;\n{calls}    printf("%ld\\n", seed);\n    return 0;\n}}\n'
    (folder / "main.c").write_text(f'#include "parts.h"\n\n{main}')
    objects = " ".join(f"{part}.o" for part in [*parts, "main"])
    rules = f"CFLAGS = -O1 -Wall\nprogram: {objects}\n\t$(CC) -o $@ $^\n{objects}: parts.h\n"
    (folder / "Makefile").write_text(rules)


# The disk has no say in it: nothing waits for a write to arrive there.
INSERTS = """
import os, sqlite3
if os.path.exists("rows.db"): os.remove("rows.db")
base = sqlite3.connect("rows.db", isolation_level=None)
base.execute("pragma synchronous = off")
base.execute("create table rows (id integer primary key, name text, value real)")
base.execute("create index by_name on rows (name)")
for batch in range(200):
    base.execute("begin")
    base.executemany("insert into rows (name, value) values (?, ?)", [(f"row {batch * 7919 % 1000} {n}", n / 7) for n in range(100)])
    base.execute("commit")
assert base.execute("select count(*) from rows").fetchone() == (20000,)
"""


def nothing(_folder):
    """It makes its own files."""


STARTS = [
    Command("cold_static", "cold start, static hello", [OUT / "hello-static"], aspects=ALL, absolute=1.5, absolute_served=0.8),
    Command("cold_dynamic", "cold start, dynamic hello", [OUT / "hello-dynamic"], aspects=ALL),
    Command("cold_python", "`python3 -c pass`", [PYTHON, "-c", "pass"], aspects=ALL, limit=1.3),
]
PROGRAMS = [
    Command("git_status", "`git status`, 1,000 files", ["git", "status", "--short"], make=git_repository, limit=1.3),
    Command(
        "gcc_hello", "`gcc hello.c`", ["gcc", "-o", "hello", "hello.c"], make=hello_source, executes=True, limit=1.3
    ),
    Command("make_project", "`make -j2`, 25 C files", ["make", "-B", "-s", "-j2"], make=c_project, executes=True, limit=1.3),
    Command("sqlite_insert", "SQLite, 20,000 rows in 200 transactions", [PYTHON, "-c", INSERTS], make=nothing, limit=1.3),
]
