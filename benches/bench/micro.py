"""Small operations, which a program of ours repeats and times itself."""

from . import OUT, run
from .rows import Benchmark, Row

# Where the machine is itself virtual, memory that was not touched lately costs a fault in its host as well: up to 2 s a
# GiB, and only ever added. So these are preceded by unmeasured native runs, whose freed pages the measured one then
# gets with luck, and the quickest round counts instead of the median.
WARMING_RUNS = 2
NANOSECONDS = {"ns": 1, "µs": 1e3, "ms": 1e6}


class Micro(Benchmark):
    """A benchmark of the program `micro`: one number, nanoseconds for one operation."""

    def __init__(self, name, label, unit, *, most=None, pinned=False, touching=False, executes=False):
        row = Row(label + (", pinned to one CPU" if pinned else ""), unit, NANOSECONDS[unit], limit=most)
        super().__init__(name + ("_pinned" if pinned else ""), [row])
        self.operation = name
        self.pinned = pinned
        self.touching = touching
        self.executes = executes

    def measure(self, peer):
        if self.executes and not peer.follows_exec:
            return None
        if self.touching:
            for _ in range(WARMING_RUNS):
                run([OUT / "micro", self.operation])
        pin = ["taskset", "-c", "0"] if self.pinned else []
        result = run([*pin, *peer.command([OUT / "micro", self.operation])])
        if result is None:
            return None
        words = result.stdout.split()
        if result.returncode != 0 or len(words) != 2 or words[1] == "unsupported":
            return None
        return [float(words[1])]

    def summary(self, measurements):
        return min(measurements) if self.touching else super().summary(measurements)


CALLS = [
    Micro("null_syscall", "getpid, by `syscall(2)`", "ns", most=0.3),
    Micro("gettid", "gettid, by `syscall(2)`", "ns", most=0.3),
    Micro("getuid", "getuid, by `syscall(2)`", "ns", most=0.3),
    Micro("clock_vdso", "clock_gettime, vDSO", "ns", most=1.2),
    Micro("clock_trapped", "clock_gettime, by `syscall(2)`", "µs"),
    Micro("getrandom_vdso", "getrandom 16 bytes, vDSO", "ns", most=1.5),
    Micro("read_zero", "read 1 B of /dev/zero", "µs", most=4),
    Micro("write_null", "write 1 B to /dev/null", "µs", most=4),
    Micro("lseek", "lseek", "µs", most=4),
    Micro("fstat", "fstat", "µs", most=4),
    Micro("pread_4k", "pread 4 KiB of a cached file", "µs", most=3),
    Micro("open_fstat_close", "open + fstat + close", "µs", most=4),
]
SIDES = [
    Micro("pipe_ping_pong", "pipe ping-pong, two processes", "µs", most=2),
    Micro("pipe_ping_pong", "pipe ping-pong, two processes", "µs", pinned=True),
    Micro("futex_ping_pong", "futex ping-pong, two threads", "µs", most=2),
    Micro("futex_ping_pong", "futex ping-pong, two threads", "µs", pinned=True),
    Micro("unix_ping_pong", "Unix-socket ping-pong, two processes", "µs"),
    Micro("tcp_ping_pong", "loopback TCP ping-pong, two processes", "µs"),
]
PROCESSES = [
    Micro("fork_exit_wait", "fork + exit + wait", "µs", most=2),
    Micro("fork_500m", "fork + exit + wait, 500 MiB touched", "ms"),
    Micro("fork_exec_wait", "fork + exec + wait, static", "µs", most=2, executes=True),
    Micro("thread_create_join", "thread create + join", "µs"),
    Micro("processes_1000", "1,000 processes at once", "ms"),
    Micro("threads_500", "500 threads at once", "ms"),
    Micro("threads_4000", "4,000 threads at once", "ms"),
    Micro("descriptors_100000", "100,000 descriptors at once", "ms"),
]
MEMORY = [
    Micro("touch_4k", "first touch of a 4 KiB page", "µs", touching=True),
    Micro("touch_huge_1g", "first touch of 1 GiB, huge pages", "ms", touching=True),
    Micro("mmap_munmap", "mmap + munmap of 64 KiB", "µs"),
    Micro("mmap_touch_munmap", "mmap + touch + munmap", "µs", touching=True),
]
COMPUTATION = [
    Micro("integer", "computation, integer", "ms"),
    Micro("avx", "computation, AVX", "ms"),
]
