"""Disks of bench nodes as loop devices: a sparse file per disk, a device per attachment, a link in the node.

A file `<node roots>/<instance>` holds the path of that node's root as this process sees it (such as
/proc/<pid>/root); an instance without one has no devices. In the node's root an attachment is
  /dev/sdX                              the loop device under a name that the CSI driver accepts
  /dev/disk/by-id/google-<deviceName>   -> /dev/sdX
  /run/llm-bench/scsi/sdX               the device name, for the node's stand-in for scsi_id
It knows nothing of Compute: who may attach what is decided before.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from testbench.vm import machine

_LOOP_MAJOR = 7
_SCSI = Path("run/llm-bench/scsi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A device in a node."""

    instance: str
    disk: str
    device: str
    loop: str
    """Path of the loop device, such as /dev/loop3."""


class Devices:
    """Makes and removes devices. `disks` holds the files, `roots` the nodes' root files."""

    def __init__(self, disks: Path, roots: Path) -> None:
        self.disks = disks.absolute()
        self.roots = roots
        self._lock = threading.Lock()
        self.disks.mkdir(parents=True, exist_ok=True)

    def file(self, disk: str) -> Path:
        return self.disks / f"{disk.replace('/', '_')}.img"

    def is_node(self, instance: str) -> bool:
        return (self.roots / instance).exists()

    def attach(
        self, instance: str, disk: str, device: str, *, size_gib: int, read_only: bool, seen_mib: int = 0
    ) -> Attachment:
        """
        Args:
            seen_mib: the device shows only so much of the disk; 0: all of it.

        Raises:
            OSError: the device could not be made; nothing is left behind.
        """
        file = self.file(disk)
        with self._lock:
            if file.exists() and not read_only:
                _own(file)
            grow(file, size_gib)
            mode = ["--read-only"] if read_only else []
            mode += [f"--sizelimit={seen_mib << 20}"] if seen_mib else []
            # direct: without a second page cache, writes were 2-5 times faster on a small VM
            loop = _run("losetup", "--find", "--show", "--direct-io=on", *mode, str(file))
            made = Attachment(instance=instance, disk=disk, device=device, loop=loop)
            try:
                self.link(made)
            except OSError:
                self.detach(made)
                raise
        return made

    def link(self, made: Attachment) -> None:
        """Makes the names in the node's root; called again after the node came back with a new root."""
        root, name = self._root(made.instance), sd_name(made.loop)
        if root is None:
            return
        number = os.stat(made.loop).st_rdev
        machine.allow(made.instance, os.major(number), os.minor(number))
        for node in (root / "dev" / name, root / made.loop.lstrip("/")):
            _make_node(node, number)
        link = root / "dev/disk/by-id" / f"google-{made.device}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(f"/dev/{name}")
        scsi = root / _SCSI / name
        scsi.parent.mkdir(parents=True, exist_ok=True)
        scsi.write_text(made.device)

    def detach(self, made: Attachment) -> None:
        """A node that is gone, or names that are gone, are no error. A mounted device is freed at its umount."""
        root, name = self._root(made.instance), sd_name(made.loop)
        if root is not None:
            for path in (
                root / "dev/disk/by-id" / f"google-{made.device}",
                root / _SCSI / name,
                root / "dev" / name,
            ):
                with contextlib.suppress(OSError):
                    path.unlink()
        with contextlib.suppress(OSError):
            _run("losetup", "--detach", made.loop)

    def holds(self, made: Attachment) -> bool:
        """Whether the loop device still stands on the disk's file."""
        return backing_file(made.loop) == str(self.file(made.disk))

    def copy(self, source: str, target: str) -> None:
        """Copies a disk's content; a disk that never had a device is empty.

        As on Compute the copy is there at once: both names share one file until one of them is to be written.
        """
        one, other = self.file(source), self.file(target)
        with self._lock:
            if not one.exists():
                return
            other.unlink(missing_ok=True)
            if _written(one):
                _duplicate(one, other)
            else:
                os.link(one, other)

    def remove(self, disk: str) -> None:
        self.file(disk).unlink(missing_ok=True)

    def _root(self, instance: str) -> Path | None:
        try:
            root = Path((self.roots / instance).read_text().strip())
        except FileNotFoundError:
            return None
        return root if (root / "dev").is_dir() else None


def release_all(disks: Path, *, keep: Collection[str] = ()) -> list[str]:
    """Frees the loop devices on files below `disks`, whoever made them. For `down`, when no fake runs."""
    freed = []
    for loop in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        device = f"/dev/{loop.parts[3]}"
        if device not in keep and loop.read_text().strip().startswith(f"{disks}/"):
            with contextlib.suppress(OSError):
                _run("losetup", "--detach", device)
                freed.append(device)
    return freed


def grow(file: Path, size_gib: int) -> None:
    if file.exists() and file.stat().st_size >= size_gib << 30:
        return
    if file.exists():
        _own(file)
    with file.open("ab") as f:
        f.truncate(size_gib << 30)


def _own(file: Path) -> None:
    """Ends the sharing of a file: what is written to it must not be seen by a copy of it."""
    if file.stat().st_nlink > 1:
        draft = file.with_suffix(".draft")
        _duplicate(file, draft)
        draft.replace(file)


def _duplicate(one: Path, other: Path) -> None:
    _run("cp", "--sparse=always", "--reflink=auto", str(one), str(other))


def _written(file: Path) -> bool:
    """Whether a device stands on the file that may be written."""
    for loop in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if loop.read_text().strip() == str(file) and (loop.parents[1] / "ro").read_text().strip() == "0":
                return True
    return False


def backing_file(loop: str) -> str:
    try:
        return Path(f"/sys/block/{Path(loop).name}/loop/backing_file").read_text().strip()
    except OSError:
        return ""


def sd_name(loop: str) -> str:
    """Name of the alias of a loop device: past sdz, so that it meets no disk of the host.

    >>> sd_name("/dev/loop0"), sd_name("/dev/loop27")
    ('sdaa', 'sdbb')
    """
    number = int(loop.removeprefix("/dev/loop"))
    letters = "abcdefghijklmnopqrstuvwxyz"
    return f"sd{letters[number // 26 % 26]}{letters[number % 26]}"


def _make_node(path: Path, number: int) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        os.mknod(path, 0o660 | stat.S_IFBLK, number)
        return
    if os.major(found.st_rdev) != _LOOP_MAJOR:
        raise FileExistsError(f"{path} belongs to another device")
    if found.st_rdev != number:
        path.unlink()
        os.mknod(path, 0o660 | stat.S_IFBLK, number)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()
