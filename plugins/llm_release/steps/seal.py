"""Ends the writer and makes the disk READ_ONLY_MANY: one way, so only after everything was verified.

The order is the safe one of the reference: Job and pod gone, claim and volume gone, attachment gone, no
user left in Compute, and only then the access mode, read back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.compute import READ_ONLY_MANY
from llm_release.clients.kube_objects import Ref
from llm_release.steps import disk, lock
from llm_release.steps.disk import Volume
from llm_release.steps.world import Wait, World

DETACH_WITHIN_S = 420
"""The attach-detach controller gives up on a lost node after 6 minutes."""


@dataclass(frozen=True, slots=True)
class Sealed:
    STEP: ClassVar[str] = "stage.seal"
    access_mode: str


def run(world: World) -> Sealed | Wait:
    volume = world.of(Volume)
    found = disk.owned(world, id=volume.id)
    if found.access_mode == READ_ONLY_MANY:
        world.log(f"disk={found.name} access_mode={found.access_mode}")
        return Sealed(found.access_mode)
    lock.hold(world)
    if left := _writer_gone(world):
        return left
    if found.users:
        return Wait(
            "disk", found.name, DETACH_WITHIN_S, f"disk {found.name} to be detached", zone=volume.zone
        )
    started = world.disks.seal(volume.zone, volume.disk)
    if started.error:
        raise started.error
    world.log(f"sealing disk={volume.disk} operation={started.name}")
    return Wait("operation", started.name, 300, f"disk {volume.disk} to be sealed", zone=volume.zone)


def _writer_gone(world: World) -> Wait | None:
    who, namespace = world.names, world.spec.namespace
    job = who.job("hydrate")
    world.kube.delete(Ref("batch/v1", "Job", job, namespace))
    if world.kube.job_pods(namespace, job):
        return Wait(
            "pods", f"batch.kubernetes.io/job-name={job}", 120, "the hydration pod to be gone", namespace
        )
    world.kube.delete(Ref("v1", "PersistentVolumeClaim", who.staging_pvc, namespace))
    world.kube.delete(Ref("v1", "PersistentVolume", who.staging_pv))
    if world.kube.attachments(who.staging_pv):
        return Wait("attachments", who.staging_pv, DETACH_WITHIN_S, "the writer's volume to be detached")
    return None
