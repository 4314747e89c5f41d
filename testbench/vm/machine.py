"""Runs one machine from its start until it is switched off: `python -m testbench.vm.machine FOLDER`.

FOLDER/machine.json is a `Plan`. The fake Compute starts this process for an instance that has a startup script, gives
it disks while it stands still, and lets it go. SIGTERM switches it off: nothing in it is asked to end.

  FOLDER/serial.log       what its serial port 1 printed, in the form of Google's guest agent
  FOLDER/guest.json       guest attributes that it set
  FOLDER/root             path of its root, once its devices can be made there
  FOLDER/go               made by the fake: the disks are there, the startup script may run
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

METADATA = "169.254.169.254"
CGROUPS = Path("/sys/fs/cgroup")
AGENT = "google_metadata_script_runner[841]"
_DEVICES = ("c 1:3", "c 1:5", "c 1:7", "c 1:8", "c 1:9")
_DROPPED = "-sys_module,-sys_boot,-sys_time,-sys_rawio,-net_admin,-sys_ptrace,-syslog"
_HIERARCHIES = ("devices", "memory", "pids")
_PREPARE = """
set -e
root=$1/root.d script=$2 name=$3; shift 3
mount --make-rprivate /
mkdir -p "$root"
mount -t overlay overlay -o "lowerdir=$TREE,upperdir=$UPPER,workdir=$WORK" "$root"
mount -t proc proc "$root/proc"
for folder in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$folder"; done
chmod 1777 "$root/tmp"
# containerd's overlay cannot lie on an overlay
mkdir -p "$root/var/lib/llm-release"
mount --bind "$DATA" "$root/var/lib/llm-release"
mkdir -p "$root/dev/disk/by-id" "$root/dev/shm"
for device in null:3 zero:5 full:7 random:8 urandom:9; do
  mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"
done
ln -s /proc/self/fd "$root/dev/fd"
for hidden; do rm -f "$root/$hidden"; done
hostname "$name"
printf '127.0.0.1 localhost %s\\n169.254.169.254 metadata.google.internal\\n' "$name" > "$root/etc/hosts"
: > "$root/etc/resolv.conf"
cp "$script" "$root/run/startup-script"
chmod 755 "$root/run/startup-script"
mkdir -p "$root/.old"
cd "$root"
pivot_root . .old
cd /
# a chroot would keep every mount of the host, other machines' disks too, pinned in this namespace
umount -l /.old
rmdir /.old
while [ ! -e /run/go ]; do sleep 0.05; done
exec setpriv "--bounding-set=$DROPPED" \\
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp /run/startup-script
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the machine is made with. `index` tells its network from the others', 1 to 250."""

    name: str
    index: int
    tree: str
    startup_script: str
    metadata: dict[str, str]
    memory_mib: int = 12288
    hidden: tuple[str, ...] = ()
    """Paths of the tree that this machine does not have."""

    @property
    def network(self) -> str:
        return f"llmr-vm-{self.index}"

    @property
    def cgroup(self) -> str:
        return cgroup(self.name)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "machine.json").write_text(json.dumps(asdict(self)))


def cgroup(name: str) -> str:
    """The machine's group in every hierarchy."""
    return f"llmr-vm-{name}"


def allow(name: str, major: int, minor: int) -> None:
    """Lets a machine use a block device; one without a device cgroup is no machine of ours."""
    file = CGROUPS / "devices" / cgroup(name) / "devices.allow"
    if file.exists():
        file.write_text(f"b {major}:{minor} rwm")


def remove_leftovers() -> None:
    """What machines leave that were killed with everything else. For `down`, when none runs."""
    for network in Path("/run/netns").glob("llmr-vm-*"):
        _quiet("ip", "netns", "del", network.name)
    for group in CGROUPS.glob("*/llmr-vm-*"):
        _remove(group)


def main() -> int:
    folder = Path(sys.argv[1]).absolute()
    raw = json.loads((folder / "machine.json").read_text())
    plan = Plan(**{**raw, "hidden": tuple(raw["hidden"])})
    with contextlib.ExitStack() as ends:
        ends.callback(shutil.rmtree, folder / "disk", ignore_errors=True)
        ends.enter_context(_network(plan))
        ends.enter_context(_confined(plan))
        ends.enter_context(_metadata_server(plan, folder))
        _run(plan, folder)
    return 0


def _run(plan: Plan, folder: Path) -> None:
    script = folder / "startup-script"
    script.write_text(plan.startup_script)
    parts = {part: folder / "disk" / part for part in ("upper", "work", "data", "root.d")}
    for part in parts.values():
        part.mkdir(parents=True, exist_ok=True)
    env = {
        **os.environ,
        "TREE": plan.tree,
        "UPPER": str(parts["upper"]),
        "WORK": str(parts["work"]),
        "DATA": str(parts["data"]),
        "DROPPED": _DROPPED,
    }
    argv = ["nsenter", f"--net=/run/netns/{plan.network}", "unshare", "--mount", "--pid", "--fork"]
    argv += ["--uts", "--ipc", "--kill-child", "bash", "-c", _PREPARE, "sh"]
    argv += [str(folder / "disk"), str(script), plan.name, *plan.hidden]
    vm = subprocess.Popen(
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: _join(plan),
    )

    def switch_off(number: int, frame: FrameType | None) -> None:
        vm.kill()

    signal.signal(signal.SIGTERM, switch_off)
    serial = Serial(folder / "serial.log")
    serial.line(f"Linux version of the bench, {plan.name}")
    root = _root_of(vm)
    if root is not None:
        (folder / "root").write_text(str(root))
        _released(vm, folder, root)
    assert vm.stdout is not None
    for line in vm.stdout:
        serial.line(f"{AGENT}: startup-script: {line.decode(errors='replace').rstrip()}")
    code = vm.wait()
    if code >= 0:  # a machine that was switched off says nothing
        if code:
            serial.line(f'{AGENT}: Script "startup-script" failed with error: exit status {code}')
        else:
            serial.line(f"{AGENT}: startup-script exit status 0")
        serial.line(f"{AGENT}: Finished running startup scripts.")
        signal.pause()  # as a machine does: it runs until it is switched off


class Serial:
    """Serial port 1: lines with the seconds since the start, as a kernel's console has them."""

    def __init__(self, file: Path) -> None:
        self._out = file.open("ab", buffering=0)
        self._started = time.monotonic()

    def line(self, text: str) -> None:
        self._out.write(f"[{time.monotonic() - self._started:12.6f}] {text}\r\n".encode())


def _root_of(vm: subprocess.Popen[bytes]) -> Path | None:
    """Where the machine's root is seen from here, once it has one of its own; None when it ended before."""
    while vm.poll() is None:
        children = Path(f"/proc/{vm.pid}/task/{vm.pid}/children").read_text().split()
        if children:
            root = Path(f"/proc/{children[0]}/root")
            with contextlib.suppress(OSError):
                if not (root / ".old").exists() and (root / "run" / "startup-script").exists():
                    return root
        time.sleep(0.02)
    return None


def _released(vm: subprocess.Popen[bytes], folder: Path, root: Path) -> None:
    """Stands still until the fake has attached the disks."""
    while vm.poll() is None and not (folder / "go").exists():
        time.sleep(0.02)
    if vm.poll() is None:
        (root / "run" / "go").touch()


def _join(plan: Plan) -> None:
    for hierarchy in _HIERARCHIES:
        file = CGROUPS / hierarchy / plan.cgroup / "cgroup.procs"
        if file.exists():
            file.write_text(str(os.getpid()))


@contextlib.contextmanager
def _confined(plan: Plan) -> Iterator[None]:
    """cgroup v1 only: elsewhere the machine's devices and memory are not limited."""
    made = [CGROUPS / h / plan.cgroup for h in _HIERARCHIES if (CGROUPS / h).is_dir()]
    try:
        for group in made:
            group.mkdir(exist_ok=True)
        if made:
            devices, memory, pids = made
            (devices / "devices.deny").write_text("a")
            for rule in ("c *:* m", "b *:* m", *(f"{d} rwm" for d in _DEVICES)):
                (devices / "devices.allow").write_text(rule)
            (memory / "memory.limit_in_bytes").write_text(str(plan.memory_mib << 20))
            (pids / "pids.max").write_text("2000")
        yield
    finally:
        for group in made:
            _remove(group)


def _remove(group: Path) -> None:
    """What was killed leaves its group a little later."""
    for _ in range(50):
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)


@contextlib.contextmanager
def _network(plan: Plan) -> Iterator[None]:
    """A link to the host alone: its addresses are not masqueraded, so nothing outside can be reached."""
    here, there = f"10.89.{plan.index}.1", f"10.89.{plan.index}.2"
    link, peer = f"llmr-v{plan.index}", f"llmr-p{plan.index}"
    inside = ["ip", "-n", plan.network]
    _quiet("ip", "netns", "del", plan.network)
    _quiet("ip", "link", "del", link)
    try:
        _ip("ip", "netns", "add", plan.network)
        _ip("ip", "link", "add", link, "type", "veth", "peer", "name", peer)
        _ip("ip", "link", "set", peer, "netns", plan.network)
        _ip("ip", "address", "add", f"{here}/30", "dev", link)
        _ip("ip", "link", "set", link, "up")
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "address", "add", f"{METADATA}/32", "dev", "lo")
        _ip(*inside, "address", "add", f"{there}/30", "dev", peer)
        _ip(*inside, "link", "set", peer, "up")
        _ip(*inside, "route", "add", "default", "via", here)
        yield
    finally:
        _quiet("ip", "netns", "del", plan.network)
        _quiet("ip", "link", "del", link)


@contextlib.contextmanager
def _metadata_server(plan: Plan, folder: Path) -> Iterator[None]:
    attributes = folder / "metadata.json"
    attributes.write_text(json.dumps(plan.metadata))
    argv = ["ip", "netns", "exec", plan.network, sys.executable, "-m", "testbench.fakes.metadata"]
    argv += ["--listen", f"{METADATA}:80", "--instance", plan.name]
    argv += ["--attributes", str(attributes), "--guest-attributes", str(folder / "guest.json")]
    ready = folder / "metadata.ready"
    server = subprocess.Popen([*argv, "--ready", str(ready)], stdin=subprocess.DEVNULL)
    try:
        while not ready.exists() and server.poll() is None:
            time.sleep(0.02)
        yield
    finally:
        server.kill()
        server.wait()


def _ip(*argv: str) -> None:
    subprocess.run(argv, check=True)


def _quiet(*argv: str) -> None:
    subprocess.run(argv, check=False, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
