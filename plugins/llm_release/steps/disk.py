"""Creates the release's Hyperdisk ML: empty, single writer, in the zone of the GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.compute import HYPERDISK_ML, Disk
from llm_release.core import volume
from llm_release.core.errors import Permanent
from llm_release.steps import lock
from llm_release.steps.preflight import foreign_disk
from llm_release.steps.world import Wait, World


@dataclass(frozen=True, slots=True)
class Volume:
    STEP: ClassVar[str] = "stage.disk"
    disk: str
    id: str
    """Compute's numeric id: the name may come back as another disk, the id never does."""
    zone: str
    size_gib: int
    throughput_mibps: int


def run(world: World) -> Volume | Wait:
    release, who = world.release, world.names
    found = world.disks.get(release.zone, who.disk)
    if found is None:
        lock.hold(world)
        started = world.disks.create(
            release.zone,
            who.disk,
            size_gib=volume.size_gib(release.total_bytes),
            throughput_mibps=world.spec.weights.throughput_mibps,
            labels=who.disk_labels,
            description=f"{release.repo}@{release.commit} for {release.service}, release {release.id}",
        )
        world.log(f"creating disk={who.disk} operation={started.name}")
        if started.error:
            raise started.error
        return Wait("operation", started.name, 300, f"disk {who.disk} to be created", zone=release.zone)
    _check(world, found)
    if found.status != "READY":
        return Wait("disk", who.disk, 300, f"disk {who.disk} to be ready", zone=release.zone)
    world.log(f"disk={found.name} id={found.id} size_gib={found.size_gib} access_mode={found.access_mode}")
    return Volume(found.name, found.id, found.zone, found.size_gib, found.throughput_mibps)


def owned(world: World, *, id: str) -> Disk:
    """The disk as it is now.

    Raises:
        Permanent: it is gone, or another disk has its name.
    """
    found = world.disks.get(world.release.zone, world.names.disk)
    if found is None or found.id != id:
        raise Permanent(
            f"disk {world.names.disk} (id {id}) is gone{' and another has its name' if found else ''}.",
            next_action="clear stage.disk and what follows it: a new disk is filled.",
        )
    return found


def _check(world: World, found: Disk) -> None:
    if foreign := foreign_disk(found, world.names):
        raise foreign
    if found.kind != HYPERDISK_ML:
        raise Permanent(
            f"disk {found.name} is a {found.kind}, not {HYPERDISK_ML}.",
            next_action="delete it and trigger again.",
        )
