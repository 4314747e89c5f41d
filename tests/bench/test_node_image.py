"""A secondary boot disk is really built, holds what a fresh unpack holds, and is refused when it does not."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from llm_release.core import bootdisk
from llm_release.core.errors import Permanent, ReleaseError
from llm_release.core.spec import NodeImages, Seconds
from llm_release.hooks.cluster import ClusterHook
from llm_release.steps import image_work, node_image
from testbench import config
from tests.bench.conftest import NODE_IMAGES, Faults, finished, writes
from tests.bench.runner import Run

pytestmark = pytest.mark.timeout(300)


def build(run: Run) -> node_image.NodeImage:
    found = run.step("stage.node_image")
    assert isinstance(found, node_image.NodeImage)
    return found


def test_an_image_is_built_verified_and_used_again(run: Run, connect: ClusterHook) -> None:
    made = build(run)
    assert not made.verified
    run.step("stage.verify_image")
    names = image_work.of_release(run.world()).names
    for name in (names.builder, names.verifier):
        assert connect.machines().machine(config.ZONE, name) is None
        assert connect.disks().get(config.ZONE, name) is None
    since = time.time()
    again = build(run)
    assert (again.id, again.verified) == (made.id, True)
    assert writes(since) == []


def test_a_damaged_image_is_refused_and_deleted(run: Run, connect: ClusterHook) -> None:
    made = build(run)
    file = config.BENCH / "disks" / f"images.{made.image}.img"
    with mounted(file) as disk:
        victim = next(p for p in disk.glob("snapshots/*/fs/usr/bin/*") if p.is_file() and not p.is_symlink())
        os.chmod(victim, 0o4777)
    with pytest.raises(Permanent, match=r"layer sha256:[0-9a-f]{64} is damaged; it was deleted"):
        run.step("stage.verify_image")


def test_a_machine_that_says_nothing_is_given_up_with_its_name(run: Run, google_fault: Faults) -> None:
    run.node_images = NodeImages(
        mode="autopilot", zone=NODE_IMAGES.zone, subnetwork=NODE_IMAGES.subnetwork, build_within=Seconds(3)
    )
    google_fault(kind="vm-silent", match="llmr-build", count=1)
    with pytest.raises(ReleaseError, match=r"machine llmr-build-\w+ is gone before it said a result"):
        build(run)


def test_a_machine_that_can_install_nothing_tells_so(run: Run, google_fault: Faults) -> None:
    google_fault(kind="vm-bare", match="llmr-build", count=1)
    with pytest.raises(Permanent, match=r"stage install: .*apt-get failed 5 times"):
        build(run)


def test_an_image_of_another_digest_under_the_name_is_left_alone(run: Run, connect: ClusterHook) -> None:
    names = image_work.of_release(run.world()).names
    machines = connect.machines()
    finished(connect, machines.create_disk(config.ZONE, names.builder, size_gib=10, labels={}))
    finished(
        connect,
        machines.create_image(
            names.image,
            zone=config.ZONE,
            disk=names.builder,
            family=bootdisk.FAMILY,
            labels={bootdisk.DIGEST: "f" * 63},
            description="",
        ),
    )
    with pytest.raises(Permanent, match=f"disk image {names.image} exists and is not ours"):
        build(run)


class mounted:
    """A disk's file, mounted writable on a folder of its own."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.folder = file.with_suffix(".mnt")

    def __enter__(self) -> Path:
        self.folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-o", "loop", str(self.file), str(self.folder)], check=True)
        return self.folder

    def __exit__(self, *unused: object) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)
        self.folder.rmdir()
