"""Who runs the benchmarks: the machine itself, picovisor, and the sandboxes that people would take instead."""

import atexit
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import ENVIRONMENT, OUT, run

# Seconds for the daemon to have a monitor ready: at its start, and after one was taken.
SERVED_SOON = 0.5
SERVED_AGAIN = 0.2


@dataclass(frozen=True)
class Peer:
    """A command that runs programs; `executable` is None for the machine itself."""

    name: str
    executable: str | None
    arguments: tuple = ()
    # Options that make a folder writable, `{}` being its path. None: what is writable outside is so inside.
    writable: tuple = ()
    # Options for the host's network, and for one of its own, where there is a choice.
    host_network: tuple = ()
    own_network: tuple = ()
    # Whether programs that the program executes run in there as well.
    follows_exec: bool = True
    last: tuple = ()
    is_picovisor: bool = False
    # Programs are started by monitors that a daemon has ready.
    is_served: bool = False
    # Only where it is asked for by its name.
    on_request: bool = False

    @property
    def environment(self):
        return ENVIRONMENT | {"PICOVISOR_SERVE": ""} if self.is_served else ENVIRONMENT

    def command(self, program, *, folder=None, host_network=False, options=()):
        """The words that run `program`, which may write to `folder`."""
        program = [str(word) for word in program]
        if self.executable is None:
            return program
        network = self.host_network if host_network else self.own_network
        writable = [word.format(folder) for word in self.writable] if folder else []
        return [self.executable, *self.arguments, *network, *writable, *options, *self.last, *program]


PICOVISOR = {
    "writable": ("--rw", "{}"),
    "host_network": ("--net", "host"),
    "last": ("--",),
    "is_picovisor": True,
}
PEERS = [
    Peer("native", None),
    Peer("picovisor", "picovisor", ("run", "--files", "110000"), **PICOVISOR),
    # To see what the jail costs.
    Peer(
        "picovisor --no-jail",
        "picovisor",
        ("run", "--no-jail", "--files", "110000"),
        on_request=True,
        **PICOVISOR,
    ),
    # What is the same once the program runs is not measured twice.
    Peer("picovisor served", "picovisor", ("run",), is_served=True, **PICOVISOR),
    Peer(
        "bwrap",
        "bwrap",
        ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--unshare-all"),
        writable=("--bind", "{}", "{}"),
        host_network=("--share-net",),
    ),
    # What it executes, the host's kernel runs.
    Peer("qemu-user", "qemu-x86_64", ("-cpu", "max"), follows_exec=False),
    Peer("proot", "proot"),
    *(
        Peer(
            f"gVisor {platform}",
            "runsc",
            (f"--platform={platform}", "--ignore-cgroups"),
            host_network=("--network=host",),
            own_network=("--network=none",),
            last=("do", "--quiet"),
        )
        for platform in ["systrap", "kvm", "ptrace"]
    ),
]
NAMES = [peer.name for peer in PEERS]
USUAL = [peer.name for peer in PEERS if not peer.on_request]


def serve(peer):
    """Starts the daemon that keeps monitors ready; it ends with this process."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    daemon = subprocess.Popen([peer.executable, "serve"], env=peer.environment, start_new_session=True, **quiet)
    atexit.register(lambda: (daemon.terminate(), daemon.wait()))
    time.sleep(SERVED_SOON)
    return daemon.poll() is None


def find(wanted, picovisor):
    """Returns the wanted peers that can run a program here, and says which cannot."""
    found = []
    for peer in PEERS:
        if peer.name not in wanted:
            continue
        if peer.executable is not None:
            path = picovisor if peer.is_picovisor else shutil.which(peer.executable)
            if path is None or not Path(path).exists():
                print(f"{peer.name}: not installed, left out", file=sys.stderr)
                continue
            peer = Peer(**{**vars(peer), "executable": str(path)})
        if peer.is_served and not serve(peer):
            print(f"{peer.name}: `{peer.executable} serve` does not start, left out", file=sys.stderr)
            continue
        trial = run(peer.command([OUT / "hello-static"]), environment=peer.environment)
        if trial is None or trial.returncode != 0 or trial.stdout != "hello\n":
            why = "takes too long" if trial is None else trial.stderr.strip()[-200:]
            print(f"{peer.name}: left out, does not run a program: {why}", file=sys.stderr)
            continue
        found.append(peer)
    return found
