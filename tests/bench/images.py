"""Drives the building and verification of a disk image as a task does, and looks into what it made."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_release.clients.machines import Image
from llm_release.core.errors import Permanent, Transient
from llm_release.hooks.cluster import ClusterHook
from llm_release.steps import image_build, image_verify, image_work
from llm_release.steps.image_work import Wanted
from llm_release.steps.waiting import Look
from llm_release.steps.world import Surroundings, Wait
from testbench import config
from tests.bench.runner import HOME

SOON = 100
"""More changes of state than a build has."""


@dataclasses.dataclass
class Work:
    """A disk image that one run wants; nothing of it is there before, and nothing after."""

    at: Surroundings
    want: Wanted

    def build(self, *, stop_after: int = SOON) -> Image | None:
        """Drives the build; None when it was stopped ("killed") after so many waits."""
        return self._drive(lambda: image_build.build(self.at, self.want, lambda: None), stop_after)

    def verify(self, made: Image, *, stop_after: int = SOON) -> Image | None:
        return self._drive(lambda: image_verify.verify(self.at, self.want, made.id, lambda: None), stop_after)

    def made(self) -> Image:
        found = self.build()
        assert found is not None
        return found

    def end(self) -> None:
        """What a teardown does after a run that was killed."""
        while (ending := image_work.end(self.at, self.want)) is not None:
            self.wait(ending)

    def left(self) -> list[str]:
        """Machines and disks that are there."""
        zone, names = self.want.spec.zone, self.want.names
        made = [
            *(("machine", self.at.machines.machine(zone, n)) for n in (names.builder, names.verifier)),
            *(("disk", self.at.disks.get(zone, n)) for n in (names.builder, names.verifier)),
        ]
        return [f"{kind} {found.name}" for kind, found in made if found is not None]

    def wait(self, wait: Wait) -> None:
        look = Look(wait, self.at.connect)
        while (seen := look.once()).state == "waiting":
            time.sleep(0.1)
        if seen.state == "failed":
            raise (Transient if seen.again else Permanent)(seen.message, next_action=seen.next_action)

    def _drive(self, step: Callable[[], Image | Wait], stop_after: int) -> Image | None:
        for _ in range(stop_after):
            found = step()
            if not isinstance(found, Wait):
                return found
            self.wait(found)
        return None


def surroundings(connect: ClusterHook, holder: str) -> Surroundings:
    return Surroundings(cluster=connect.cluster, connect=connect, home=HOME, holder=holder)


@contextmanager
def mounted(image: Image, mode: str = "ro") -> Iterator[Path]:
    """The file behind a disk image, on a folder of its own."""
    file = config.BENCH / "disks" / f"images.{image.name}.img"
    folder = file.with_suffix(".mnt")
    folder.mkdir(exist_ok=True)
    options = "ro,noload,loop" if mode == "ro" else "rw,loop"
    subprocess.run(["mount", "-o", options, str(file), str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


@contextmanager
def unpacked(image: str, chains: tuple[str, ...]) -> Iterator[dict[str, Path]]:
    """The image's layers as the node's own containerd unpacks them: folder by chain ID."""
    node = config.BENCH / "nodes" / "gpu-node-1"
    ctr = [
        str(config.CACHE / "go" / "bin" / "ctr"),
        "--address",
        str(node / "containerd.sock"),
        "-n",
        "fresh",
    ]

    def call(*words: str) -> str:
        return subprocess.run([*ctr, *words], check=True, capture_output=True, text=True).stdout

    call("images", "pull", "--plain-http", "--snapshotter", "overlayfs", image)
    try:
        found: dict[str, Path] = {}
        for number, chain in enumerate(chains):
            # asked for in one call: nothing refers to a view, and containerd collects it at any time
            mounts = call(
                "snapshots", "--snapshotter", "overlayfs", "view", "--mounts", f"look-{number}", chain
            )
            folders = re.findall(r'/[^ :,="]+/snapshots/\d+/fs', mounts)
            found[chain] = Path(folders[0])
        yield found
    finally:
        for number in range(len(chains)):
            subprocess.run(
                [*ctr, "snapshots", "--snapshotter", "overlayfs", "rm", f"look-{number}"], check=False
            )
        call("images", "rm", "--sync", image)
