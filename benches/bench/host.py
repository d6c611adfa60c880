"""What the host holds: memory by kind, kernel objects, descriptors, processes, sockets, files, mounts, virtual machines."""

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

# Kernel memory that a leak of ours would show in, of /proc/meminfo. KiB.
MEMORY = ["Slab", "SUnreclaim", "KernelStack", "PageTables", "Percpu", "VmallocUsed", "AnonPages", "Shmem"]
# Objects that a run makes in the kernel, of /proc/slabinfo (root only): one of each kind of thing.
SLABS = ["kvm_vcpu", "kvm_mmu_page_header", "task_struct", "mm_struct", "vm_area_struct", "files_cache", "sock_inode_cache",
         "eventpoll_epi", "signal_cache", "pid"]
# Where files are left that nobody named.
TEMPORARY = ["/tmp", "/var/tmp", "/dev/shm", "/run"]


def meminfo():
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    values = {line[0].rstrip(":"): int(line[1]) for line in lines}
    return {name: values[name] for name in [*MEMORY, "MemAvailable"]}


def slabs():
    """Active objects by slab; nothing where we may not read that. Slabs that are merged with others have no line."""
    try:
        lines = (line.split() for line in Path("/proc/slabinfo").read_text().splitlines()[2:])
    except OSError:
        return {}
    return {f"slab {line[0]}": int(line[1]) for line in lines if line[0] in SLABS}


def machines():
    """Virtual machines of the host's; -1 where debugfs cannot be read."""
    try:
        return sum(entry.is_dir() for entry in os.scandir("/sys/kernel/debug/kvm"))
    except OSError:
        return -1


@contextlib.contextmanager
def own_copy(binary):
    """A folder with a copy of an executable, whose processes can be told from others'. Not in /tmp: sandboxes have their own."""
    with tempfile.TemporaryDirectory(prefix="picovisor-bench-", dir="/var/tmp") as folder:
        copy = Path(folder) / "picovisor"
        shutil.copy2(binary, copy)
        yield Path(folder), copy


def processes(executable):
    """Ids of the processes that run an executable."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "exe").removesuffix(" (deleted)") == str(executable):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def left_files():
    """Names of ours in the folders for temporary files."""
    names = []
    for folder in TEMPORARY:
        try:
            names += [f"{folder}/{name}" for name in os.listdir(folder) if name.startswith("picovisor")]
        except OSError:
            continue
    return sorted(name for name in names if "picovisor-test-" not in name)


def counts(executable, name):
    """What can be counted of runs of an executable in sandboxes whose names begin so, and what of the whole host."""
    sockets = [line for line in Path("/proc/net/unix").read_text().splitlines() if f"/{name}" in line]
    found = {
        "processes": len(processes(executable)),
        "sockets": len(sockets),
        "temporary files": len(left_files()),
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "open files of the whole host": int(Path("/proc/sys/fs/file-nr").read_text().split()[0]),
    }
    return found if machines() < 0 else {**found, "virtual machines of the whole host": machines()}


def settle():
    """Lets the kernel free what it frees later (RCU, work queues)."""
    time.sleep(2)


def look(executable, name):
    settle()
    return {**counts(executable, name), **meminfo(), **slabs()}


def numbers(pid):
    """Descriptors, threads and KiB of memory of its own of a process; None if there is none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        own = next(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))
        return {
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            "threads": len(os.listdir(f"/proc/{pid}/task")),
            "own memory": own,
        }
    except (OSError, StopIteration):
        return None


def processor():
    """The host as a table's caption has it."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown processor")
    system = os.uname()
    return f"{model}, {os.cpu_count()} CPUs, {system.sysname} {system.release.split('-')[0]}"


def write_section(document, name, text):
    """Replaces what stands between two marks in a document; adds both at its end where they are missing."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = document.read_text() if document.exists() else ""
    block = f"{begin}\n{text.rstrip()}\n{end}"
    if begin in old and end in old:
        head, rest = old.split(begin, 1)
        new = head + block + rest.split(end, 1)[1]
    else:
        new = old.rstrip() + f"\n\n{block}\n"
    document.write_text(new)
