"""A secondary boot disk is really built, holds what a fresh unpack holds, and is refused when it does not."""

from __future__ import annotations

import dataclasses
import os
import threading
import time

import pytest

from llm_release.core import bootdisk
from llm_release.core.errors import Permanent, ReleaseError, Transient
from llm_release.core.request import ImageRequest
from llm_release.core.spec import Seconds
from llm_release.hooks.cluster import ClusterHook
from llm_release.steps import image_request
from testbench import config
from testbench.images import odd
from tests.bench.conftest import NODE_IMAGES, Faults, finished, writes
from tests.bench.images import SOON, Work, mounted, surroundings, unpacked
from tests.bench.tools import until
from tests.bench.trees import tree

pytestmark = pytest.mark.timeout(300)


def test_every_layer_is_what_a_fresh_unpack_gives(work: Work, nasty: str) -> None:
    since = time.time()
    made = work.made()
    layers = work.at.registry.layers(nasty)
    chains = bootdisk.chain_ids(layers.diff_ids)
    assert len(set(chains)) == len(chains) == 6, "the same layer twice is two snapshots"
    with mounted(made) as disk, unpacked(nasty, chains) as fresh:
        rows = [line.split() for line in (disk / "snapshots.metadata").read_text().splitlines()]
        assert sorted(chain for chain, _, _ in rows) == sorted(chains)
        assert len({path for _, path, _ in rows}) == len(rows), "no folder twice"
        for chain, path, _ in rows:
            ours, theirs = tree(disk / path, unpacked_since=since), tree(fresh[chain], unpacked_since=since)
            assert ours == theirs, chain
        lowest = next(path for chain, path, _ in rows if chain == chains[0])
        assert "security.capability" in os.listxattr(disk / lowest / "data" / "capable")
        assert nasty in (disk / "images.metadata").read_text()


def test_an_image_is_built_verified_and_used_again(work: Work) -> None:
    made = work.made()
    assert not bootdisk.is_verified(made.labels)
    verified = work.verify(made)
    assert verified is not None
    assert bootdisk.is_verified(verified.labels)
    assert work.left() == []
    since = time.time()
    assert (work.made().id, work.verify(made)) == (made.id, verified)
    assert writes(since) == []


def test_a_damaged_image_is_refused_and_deleted(work: Work) -> None:
    made = work.made()
    with mounted(made, "rw") as disk:
        victim = next(p for p in disk.glob("snapshots/*/fs/data/setuid"))
        os.chmod(victim, 0o755)
    with pytest.raises(Permanent, match=r"layer sha256:[0-9a-f]{64} is damaged; it was deleted"):
        work.verify(made)
    until(lambda: work.at.machines.image(made.name) is None)


@pytest.mark.parametrize("lost", ["deleted", "becomes-file"])
def test_a_whiteout_that_was_lost_is_seen(work: Work, lost: str) -> None:
    """What the public builder's copy does: a deleted file comes back. The md5 of GKE's contract does not see it."""
    made = work.made()
    with mounted(made, "rw") as disk:
        whiteout = next(
            p for p in disk.glob(f"snapshots/*/fs/data/{lost}") if p.is_char_device() or p.is_file()
        )
        whiteout.unlink()
    with pytest.raises(Permanent, match="is damaged"):
        work.verify(made)


def test_a_machine_that_says_nothing_is_given_up_with_its_name(work: Work, google_fault: Faults) -> None:
    spec = dataclasses.replace(NODE_IMAGES, build_within=Seconds(3))
    work.want = dataclasses.replace(work.want, spec=spec)
    google_fault(kind="vm-silent", match="llmr-build", count=1)
    with pytest.raises(Transient, match=r"machine llmr-build-\w+ is gone before it said a result"):
        work.build()


def test_a_machine_that_can_install_nothing_tells_so(work: Work, google_fault: Faults) -> None:
    google_fault(kind="vm-bare", match="llmr-build", count=1)
    with pytest.raises(Permanent, match=r"stage install: .*apt-get failed 3 times"):
        work.build()
    work.end()
    assert work.left() == []


def test_a_machine_deleted_from_outside_is_made_again(work: Work) -> None:
    assert work.build(stop_after=2) is None, "the disk, the machine"
    operation = work.at.machines.delete_machine(config.ZONE, work.want.names.builder)
    finished(work.at.connect, operation)  # type: ignore[arg-type]
    assert work.made().status == "READY"


def test_a_disk_that_is_too_small_is_made_twice_as_large_once(work: Work, google_fault: Faults) -> None:
    work.want = dataclasses.replace(work.want, size_gib=10)
    google_fault(kind="vm-small-disk", match="llmr-build", limit=8, count=1)
    assert work.made().size_gib == 20


def test_a_disk_that_stays_too_small_is_told_as_such(work: Work, google_fault: Faults) -> None:
    google_fault(kind="vm-small-disk", match="llmr-build", limit=8)
    with pytest.raises(Permanent, match=r"disk too small: \d+ KiB and 5 % are needed, \d+ KiB are free"):
        work.build()


def test_a_task_that_is_cleared_right_after_a_failed_build_builds(work: Work, google_fault: Faults) -> None:
    google_fault(kind="vm-small-disk", match="llmr-build", limit=8, count=2)
    with pytest.raises(Permanent, match="disk too small"):
        work.build()
    assert work.made().status == "READY", "while the failed machine is still being deleted"


def test_a_registry_that_fails_in_the_machine_is_told_with_its_words(work: Work) -> None:
    gone = f"{config.REGISTRY}/llm/nasty@sha256:{'0' * 64}"
    work.want = dataclasses.replace(work.want, images=(gone,), size_gib=10)
    with pytest.raises(Permanent, match=r"stage pull: .*could not be pulled: .*not found"):
        work.build()
    work.end()
    assert work.left() == []


@pytest.mark.parametrize(
    ("kind", "said"), [("stockout", "does not have enough resources"), ("quota", "Quota")]
)
def test_no_room_in_the_zone_is_told_and_leaves_nothing(
    work: Work, google_fault: Faults, kind: str, said: str
) -> None:
    if kind == "stockout":
        google_fault(kind=kind, match="^insert .*/instances/llmr-build", count=1)
    else:
        google_fault(
            kind="op-error", match="^insert .*/instances/llmr-build", code=403, reason="QUOTA_EXCEEDED",
            message="Quota 'CPUS' exceeded.", count=1,
        )  # fmt: skip
    with pytest.raises(Permanent, match=said):
        work.build()
    work.end()
    assert work.left() == []


def test_an_image_of_another_digest_under_the_name_is_left_alone(work: Work, connect: ClusterHook) -> None:
    names, machines = work.want.names, connect.machines()
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
        work.build()


def test_a_disk_of_somebody_else_under_the_name_is_left_alone(work: Work, connect: ClusterHook) -> None:
    name = work.want.names.builder
    finished(connect, connect.machines().create_disk(config.ZONE, name, size_gib=10, labels={"owner": "me"}))
    with pytest.raises(Permanent, match=f"disk {name} exists and is not ours"):
        work.build()
    work.end()
    assert work.left() == [f"disk {name}"]


def test_a_run_killed_at_any_point_leaves_nothing_and_the_next_one_goes_on(work: Work) -> None:
    for waits in range(1, SOON):
        done = work.build(stop_after=waits)
        work.end()
        assert work.left() == [], f"killed after {waits} waits of the build"
        if done is not None:
            break
        finished(work.at.connect, work.at.machines.delete_image(work.want.names.image))  # type: ignore[arg-type]
    assert done is not None
    for waits in range(1, SOON):
        verified = work.verify(done, stop_after=waits)
        work.end()
        assert work.left() == [], f"killed after {waits} waits of the verification"
        if verified is not None:
            break


def test_two_runs_that_want_the_same_image_drive_one_build(work: Work, connect: ClusterHook) -> None:
    other = Work(surroundings(connect, "node_image/two"), work.want)
    since, made, errors = time.time(), [], []

    def run(one: Work) -> None:
        try:
            image = one.made()
            made.append((image.id, one.verify(image) is not None))
        except ReleaseError as e:
            errors.append(e)

    threads = [threading.Thread(target=run, args=(one,)) for one in (work, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(set(made)) == 1
    assert made[0][1]
    begun = [w for w in writes(since) if w["method"] == "POST" and w["path"].endswith("/instances")]
    assert len(begun) == 2, "one that builds, one that verifies"
    assert work.left() == []


def test_an_image_that_does_not_exist_or_is_for_other_machines_is_refused_before_anything_is_made(
    connect: ClusterHook,
) -> None:
    since = time.time()
    at = surroundings(connect, "node_image/three")
    at.cluster = dataclasses.replace(at.cluster, node_images=NODE_IMAGES)
    arm = odd.nasty("llm/nasty-arm", architecture="arm64")
    for image, said in (
        (f"{config.REGISTRY}/llm/none:v1", "does not exist"),
        (arm, "is for linux/arm64, not for linux/amd64"),
    ):
        with pytest.raises(Permanent, match=said):
            image_request.resolve(at, ImageRequest(images=(image,)))
    assert writes(since) == []
