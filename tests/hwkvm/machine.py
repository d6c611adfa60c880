#!/usr/bin/env python3
"""An emulated AMD machine whose /dev/kvm is the real kvm_amd, to test the hardware-virtualization path anywhere.

QEMU's TCG emulates SVM with nested paging; the kernel is Debian's cloud kernel, fetched with apt and only unpacked.

    machine.py prepare 6.12                         fetch and convert a kernel (done by `run` when it is missing)
    machine.py run 6.12 TREE 'COMMAND'              boot, unpack the folder TREE at /, run COMMAND with busybox's shell
        --cpus N  --memory MIB  --timeout SECONDS  --parameter kvm_amd.npt=0

The exit status of `run` is the command's, or 99 when the machine ended (or was ended) without one.
Times measured inside mean nothing. TCG also drops the guest's translations at every world switch, so that a missing
flush goes unnoticed with nested paging; with npt=0 it does not.
"""

import argparse
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / "target" / "hwkvm"
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "zstd": "zstd",
    "lz4": "lz4",
    "xz": "xz-utils",
}
NO_STATUS = 99
# Machines side by side may be of one kernel.
PREPARING = threading.Lock()

INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mkdir -p /dev /proc /sys /tmp /root /etc
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
mount -t tracefs trace /sys/kernel/tracing
ip link set lo up
exec </dev/console >/dev/console 2>&1
for word in $(cat /proc/cmdline); do
  case $word in
    kvm.*) kvm="$kvm ${word#kvm.}" ;;
    kvm_amd.*) kvm_amd="$kvm_amd ${word#kvm_amd.}" ;;
    token=*) token=${word#token=} ;;
  esac
done
for module in $(cat /modules/order); do
  case $module in
    kvm) insmod /modules/$module.ko $kvm ;;
    kvm-amd) insmod /modules/$module.ko $kvm_amd ;;
    *) insmod /modules/$module.ko ;;
  esac
done
sh /command
echo "$token $?"
poweroff -f
"""


class Unavailable(Exception):
    """The machine cannot be had here; the text says what is missing."""


class Archive:
    """A cpio archive in the kernel's "newc" format."""

    def __init__(self, path):
        self.file = open(path, "wb")
        self.inode = 0

    def add(self, name, mode, data=b""):
        self.inode += 1
        encoded = os.fsencode(name) + b"\0"
        fields = [self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0]
        self.file.write(b"070701" + "".join(f"{field:08x}" for field in fields).encode() + encoded)
        self.pad()
        self.file.write(data)
        self.pad()

    def add_tree(self, root):
        for folder, folders, files in os.walk(root):
            for name in sorted(folders + files):
                path = Path(folder, name)
                mode = path.lstat().st_mode
                relative = path.relative_to(root).as_posix()
                if stat.S_ISLNK(mode):
                    self.add(relative, mode, os.fsencode(os.readlink(path)))
                elif stat.S_ISREG(mode):
                    self.add(relative, mode, path.read_bytes())
                elif stat.S_ISDIR(mode):
                    self.add(relative, mode)

    def pad(self):
        self.file.write(b"\0" * (-self.file.tell() % 4))

    def close(self):
        self.add("TRAILER!!!", 0)
        self.file.close()


def command_output(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, **options).stdout


def newest_package(kernel):
    """Returns the name of the newest cloud kernel package of a version such as 6.12 that apt offers."""
    names = command_output("apt-cache", "pkgnames", f"linux-image-{kernel}.", text=True).split()
    shape = re.compile(rf"linux-image-{re.escape(kernel)}\.\d+.*-cloud-amd64")
    names = [name for name in names if shape.fullmatch(name)]
    if not names:
        raise Unavailable(f"apt offers no cloud kernel of Linux {kernel} (apt-get update? backports?)")
    return max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def decompressed(data):
    """Unpacks by magic number; data that has none is returned as it is."""
    for magic, tool in [(b"\x28\xb5\x2f\xfd", "zstd"), (b"\x02\x21\x4c\x18", "lz4"), (b"\xfd7zXZ", "xz")]:
        if data.startswith(magic):
            # A kernel's payload ends with its size, which the tools complain about after they have written everything.
            return subprocess.run([tool, "-dc"], input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return data


def vmlinux(image):
    """Cuts the ELF kernel out of a bzImage, so that the emulator need not decompress it (x86 boot protocol 2.08)."""
    setup_end = (image[0x1F1] + 1) * 512
    start = setup_end + int.from_bytes(image[0x248:0x24C], "little")
    kernel = decompressed(image[start : start + int.from_bytes(image[0x24C:0x250], "little")])
    if not kernel.startswith(b"\x7fELF"):
        raise Unavailable("the kernel's payload is compressed in a way that this script does not know")
    return kernel


def modules(root, wanted):
    """Returns {name: contents} of a module and all it depends on, in the order of loading."""
    found = {}

    def visit(name):
        if name in found:
            return
        path = next((path for path in root.rglob(f"{name}.ko*")), None)
        if path is None:
            return  # built in
        data = decompressed(path.read_bytes())
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        for dependency in depends.group(1).decode().split(",") if depends else []:
            if dependency:
                visit(dependency.replace("_", "-") if not any(root.rglob(f"{dependency}.ko*")) else dependency)
        found[name] = data

    visit(wanted)
    return found


def prepare(kernel, report=print):
    """Makes the kernel and its base archive in the cache; returns their folder."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        raise Unavailable("missing Debian packages: " + " ".join(missing))
    folder = CACHE / kernel
    if (folder / "complete").exists():
        return folder
    package = newest_package(kernel)
    report(f"fetching {package}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        # apt drops to a user of its own for downloads, who must be able to write here.
        work.chmod(0o777)
        fetched = subprocess.run(["apt-get", "-qq", "download", package], cwd=work, stderr=subprocess.PIPE, text=True)
        packages = list(work.glob("*.deb"))
        if fetched.returncode != 0 or len(packages) != 1:
            raise Unavailable(f"apt-get download {package} failed: {fetched.stderr.strip()}")
        subprocess.run(["dpkg-deb", "-x", packages[0], work / "root"], check=True)
        image = next((work / "root/boot").glob("vmlinuz-*"))
        (folder / "vmlinux").write_bytes(vmlinux(image.read_bytes()))
        archive = Archive(folder / "base.cpio")
        for name in ["bin", "modules"]:
            archive.add(name, 0o40755)
        archive.add("bin/busybox", 0o100755, Path(shutil.which("busybox")).read_bytes())
        found = modules(work / "root", "kvm-amd")
        for name, data in found.items():
            archive.add(f"modules/{name}.ko", 0o100644, data)
        archive.add("modules/order", 0o100644, " ".join(found).encode())
        archive.add("init", 0o100755, INIT.encode())
        archive.close()
    (folder / "complete").write_text(package + "\n")
    return folder


def run(kernel, tree, command, cpus=1, memory=1024, timeout=150, parameters=(), output=sys.stdout.buffer):
    """Boots the machine and runs the command in it. Copies the console to `output`; returns the command's status."""
    with PREPARING:
        folder = prepare(kernel)
    token = "status-" + secrets.token_hex(8)
    with tempfile.TemporaryDirectory() as work:
        archive = Archive(Path(work, "overlay.cpio"))
        archive.add_tree(tree)
        archive.add("command", 0o100644, command.encode() + b"\n")
        archive.close()
        initrd = Path(work, "initrd")
        with open(initrd, "wb") as joined:
            for part in [folder / "base.cpio", Path(work, "overlay.cpio")]:
                with open(part, "rb") as source:
                    shutil.copyfileobj(source, joined)
        boot = ["console=ttyS0", "quiet", "panic=-1", "nokaslr", "mitigations=off", "audit=0", "nowatchdog"]
        # The emulator's counter is steady, but calibrating it takes a second.
        boot += ["tsc=reliable", "no_timer_check", "random.trust_cpu=on", f"token={token}", *parameters]
        # One host thread for all CPUs, which take turns every 100 ms and at each PAUSE. With a thread each, the emulator
        # breaks nested guests' hosts: int3 of patches long complete, overwritten kernel stacks, lost interrupts.
        arguments = ["qemu-system-x86_64", "-accel", "tcg,thread=single", "-machine", "q35", "-cpu", "max,+svm,+npt,-la57"]
        arguments += ["-smp", str(cpus), "-m", str(memory), "-nodefaults", "-no-user-config", "-no-reboot"]
        arguments += ["-display", "none", "-serial", "stdio", "-kernel", folder / "vmlinux", "-initrd", initrd]
        arguments += ["-append", " ".join(boot)]
        machine = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        guard = threading.Timer(timeout, machine.kill)
        guard.start()
        status = NO_STATUS
        try:
            for line in machine.stdout:
                text = line.decode(errors="replace").strip()
                if text.startswith(token):
                    status = int(text.split()[1])
                elif not re.match(r"\[ *\d+\.\d+\] reboot: Power down", text):
                    output.write(line)
                    output.flush()
        finally:
            guard.cancel()
            machine.kill()
            machine.wait()
    return status


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    prepare_arguments = actions.add_parser("prepare")
    prepare_arguments.add_argument("kernel")
    run_arguments = actions.add_parser("run")
    run_arguments.add_argument("kernel")
    run_arguments.add_argument("tree", type=Path)
    run_arguments.add_argument("command")
    run_arguments.add_argument("--cpus", type=int, default=1)
    run_arguments.add_argument("--memory", type=int, default=1024, metavar="MIB")
    run_arguments.add_argument("--timeout", type=int, default=150, metavar="SECONDS")
    run_arguments.add_argument("--parameter", action="append", default=[], dest="parameters", metavar="KERNEL-PARAMETER")
    options = vars(parser.parse_args())
    try:
        if options.pop("action") == "prepare":
            print(prepare(options["kernel"]))
        else:
            sys.exit(run(**options))
    except Unavailable as reason:
        sys.exit(f"machine.py: {reason}")


if __name__ == "__main__":
    main()
