"""The machines and disks of a run that build its disk image go, with Compute alone, where the run began them."""

from __future__ import annotations

import dataclasses
import json
from typing import NoReturn

import pytest

from llm_release.core import bootdisk
from llm_release.core.clusterspec import NodeImages, NodePool
from llm_release.core.errors import Transient
from llm_release.core.strict import Seconds, decode, encode
from llm_release.steps import end_machines, image_work, lock, tidy
from llm_release.steps.end_machines import Ended
from llm_release.steps.lock import Locked
from llm_release.steps.verify_image import VerifiedImage
from llm_release.steps.world import Skipped, Wait, World
from tests.unit.support.bed import NAMES, Bed
from tests.unit.support.world import HOLDER, Connected

HERE, ELSEWHERE = "us-central1-a", "us-central1-b"
MACHINES = (NAMES.builder, NAMES.verifier)


class Alone(Connected):
    """Compute answers, and nothing else."""

    def kubernetes(self) -> NoReturn:
        raise AssertionError("the step asked Kubernetes")

    def store(self) -> NoReturn:
        raise AssertionError("the step asked the store")


def machines(bed: Bed, zone: str = HERE, *, holder: str = HOLDER) -> None:
    """A builder and a verifier with a disk each, as a run left them that was killed."""
    assert bed.google.cloud is not None
    labels = NAMES.labels | {bootdisk.RUN: bootdisk.run_label(holder)}
    with bed.google.cloud.state.changing() as held:
        for name in MACHINES:
            for kind, collection in (("instance", "instances"), ("disk", "disks")):
                held.resources[f"projects/demo/zones/{zone}/{collection}/{name}"] = {
                    "kind": f"compute#{kind}",
                    "name": name,
                    "id": "1",
                    "status": "RUNNING" if kind == "instance" else "READY",
                    "labels": labels,
                    **({"users": []} if kind == "disk" else {"disks": []}),
                }


def left(bed: Bed, zone: str = HERE) -> list[str]:
    connect = bed.run.connect
    found = [f"machine {name}" for name in MACHINES if connect.machines().machine(zone, name)]
    return found + [f"disk {name}" for name in MACHINES if connect.disks().get(zone, name)]


def alone(bed: Bed, mode: str = "autopilot", *, built: bool = True) -> World:
    """The world of a run that is closed while nothing but Compute answers."""
    world = bed.world(mode)
    world.connect = Alone(**{f.name: getattr(world.connect, f.name) for f in dataclasses.fields(Connected)})
    world.__dict__.pop("store", None)
    if not built:
        bed.run.facts.pop(VerifiedImage.STEP)
    return world


def locked(bed: Bed, images: NodeImages | None) -> None:
    """XCom is JSON."""
    bed.run.facts[Locked.STEP] = json.loads(json.dumps(encode(Locked(HOLDER, 1, "gs://x", images))))


def test_machines_and_disks_of_the_run_go_though_nothing_but_compute_answers(bed: Bed) -> None:
    machines(bed)
    assert len(left(bed)) == 4
    assert bed.until_done(end_machines.run, alone(bed)) == Ended()
    assert left(bed) == []


def test_those_of_another_run_stay(bed: Bed) -> None:
    machines(bed, holder="release__gemma/two")
    assert bed.until_done(end_machines.run, alone(bed)) == Ended()
    assert len(left(bed)) == 4


def test_tidying_leaves_them_to_this_step(bed: Bed) -> None:
    machines(bed)
    bed.until_done(tidy.run, bed.world("autopilot"))
    assert len(left(bed)) == 4


def test_a_cluster_without_boot_disks_is_skipped(bed: Bed) -> None:
    with pytest.raises(Skipped, match="has no node_images"):
        end_machines.run(alone(bed, ""))


def test_a_build_that_did_not_end_is_looked_for_once_more_when_its_task_must_be_dead(bed: Bed) -> None:
    world = alone(bed, built=False)
    first = end_machines.run(world)
    assert isinstance(first, Wait)
    assert first.kind == "time"
    machines(bed)  # by the task, in its last seconds
    world.began -= image_work.KILLED_WITHIN_S
    assert bed.until_done(end_machines.run, world) == Ended()
    assert left(bed) == []


def test_what_such_a_task_makes_after_the_first_was_deleted_goes_too(bed: Bed) -> None:
    world = alone(bed, built=False)
    machines(bed)
    while len(left(bed)) > 0:
        assert isinstance(end_machines.run(world), Wait)
    waiting = end_machines.run(world)
    assert isinstance(waiting, Wait)
    assert waiting.kind == "time"


def test_a_failure_of_compute_is_told(bed: Bed) -> None:
    machines(bed)
    bed.google.control("POST", "faults", kind="api-error", code=503, message="away", match="DELETE", count=9)
    with pytest.raises(Transient, match="away"):
        end_machines.run(alone(bed))


# The cluster's file is changed while a run is under way ---------------------------------------------


def test_they_are_looked_for_in_the_zone_in_which_the_run_began_them(bed: Bed) -> None:
    images = bed.world("autopilot").cluster.node_images
    assert images is not None
    locked(bed, dataclasses.replace(images, zone=ELSEWHERE))
    machines(bed, ELSEWHERE)
    machines(bed, HERE)
    bed.until_done(end_machines.run, alone(bed))
    assert left(bed, ELSEWHERE) == []
    assert len(left(bed, HERE)) == 4


def test_they_go_when_the_file_has_no_boot_disks_any_more(bed: Bed) -> None:
    locked(bed, bed.world("autopilot").cluster.node_images)
    machines(bed)
    bed.until_done(end_machines.run, alone(bed, ""))
    assert left(bed) == []


def test_boot_disks_that_the_file_has_since_then_are_for_the_next_run(bed: Bed) -> None:
    locked(bed, None)
    with pytest.raises(Skipped):
        end_machines.run(alone(bed, "autopilot"))


@pytest.mark.parametrize("mode", ["autopilot", "standard", ""])
def test_the_lock_keeps_the_boot_disks_of_the_cluster(bed: Bed, mode: str) -> None:
    world = bed.world(mode)
    kept = lock.run(world)
    assert kept.node_images == world.cluster.node_images
    locked(bed, kept.node_images)
    if mode:
        assert image_work.of_release(bed.world("")).spec == world.cluster.node_images


def test_boot_disks_are_the_same_after_xcom() -> None:
    images = NodeImages(
        mode="standard",
        zone=HERE,
        subnetwork="regions/us-central1/subnetworks/default",
        build_within=Seconds(1800),
        node_pool=NodePool(machine="g2-standard-24", max=2),
    )
    kept = Locked(HOLDER, 1, "gs://x", images)
    assert decode(Locked, json.loads(json.dumps(encode(kept)))) == kept
    none = dataclasses.replace(kept, node_images=None)
    assert decode(Locked, json.loads(json.dumps(encode(none)))) == none
