"""What building and verifying a disk image share: what is wanted, and the machines that do the work.

Names come from the images' digests, so two runs that want the same disk image drive the same work: whoever looks
next takes the next step, and what another has done is found done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_release.core import bootdisk, nodeplace
from llm_release.core.bootdisk import Names, Result
from llm_release.core.clusterspec import NodeImages
from llm_release.core.errors import Conflict, Permanent, Transient
from llm_release.steps.lock import Locked
from llm_release.steps.world import Skipped, Surroundings, Wait, World

if TYPE_CHECKING:
    from llm_release.clients.machines import Image, Machine, Wish
    from llm_release.clients.operations import Operation

_GOING_S = 3.0
_LINES_TOLD = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """A disk image that is wanted."""

    images: tuple[str, ...]
    """Engine images, by digest."""
    spec: NodeImages
    size_gib: int = 0
    """Of the disk; 0: by the size of the images in their registry."""
    asked: bool = False
    """By a person, outside of any release."""

    @property
    def names(self) -> Names:
        return Names.of(self.images)

    @property
    def shown(self) -> str:
        return ", ".join(self.images)


def of_release(world: World) -> Wanted:
    """By the cluster's file as it was when the release was locked.

    Raises:
        Skipped: the cluster has no secondary boot disks.
    """
    locked = world.maybe(Locked)
    spec = locked.node_images if locked else world.cluster.node_images
    if spec is None:
        raise Skipped(f"cluster {world.cluster.cluster} has no node_images: nodes pull the engine's image")
    return Wanted((world.release.image,), spec)


def is_verified(image: Image) -> bool:
    return image.labels.get(bootdisk.VERIFIED) == "true"


def check_ours(image: Image, names: Names) -> None:
    """Raises Permanent when an image of that name is not the one for this digest."""
    if names.labels.items() - image.labels.items():
        raise Permanent(
            f"disk image {image.name} exists and is not ours for {names.digest}"
            f" (labelled {image.labels.get(bootdisk.DIGEST, 'with no digest')}).",
            next_action="delete or rename that image; nothing was changed.",
        )


def check_allowed(at: Surroundings, names: Names) -> None:
    """An image that no allow-list names shows as a pod that waits for a node, and nobody says why.

    Raises:
        Permanent: no allow-list of the cluster names it.
    """
    found = at.kube.list("node.gke.io/v1", "GCPResourceAllowlist", "")
    patterns = [p for o in found for p in o.get("spec", {}).get("allowedResourcePatterns") or ()]
    path = nodeplace.resource(at.cluster.project, names)
    if not nodeplace.allowed(path, patterns):
        raise Permanent(
            f"no GCPResourceAllowlist of the cluster allows {path}: GKE would make no node with it.",
            next_action=f"trigger platform__{at.cluster.cluster} once.",
        )


def end(at: Surroundings, wanted: Wanted) -> Wait | None:
    """Deletes the machines, then the disks that this run made and did not take away: it was killed, or it failed.

    Returns: what to wait for before it is called again; None when nothing of this run is left.
    """
    zone, names = wanted.spec.zone, (wanted.names.builder, wanted.names.verifier)
    mine = bootdisk.run_label(at.holder)
    for name in names:
        machine = at.machines.machine(zone, name)
        if machine is not None and machine.labels.get(bootdisk.RUN) == mine:
            at.log(f"deleting machine={name}")
            return delete_machine(at, zone, name)
    for name in names:
        disk = at.disks.get(zone, name)
        # one that is in use is another run's machine's now
        if disk is not None and disk.labels.get(bootdisk.RUN) == mine and not disk.users:
            at.log(f"deleting disk={name}")
            if (gone := at.disks.delete(zone, name)) is not None:
                return operation(gone.name, zone, f"disk {name} to be deleted")
    return None


def labels_of(at: Surroundings, names: Names) -> dict[str, str]:
    """Of everything that this run makes for the disk image."""
    return names.labels | {bootdisk.RUN: bootdisk.run_label(at.holder)}


def metadata(at: Surroundings, kind: str) -> dict[str, str]:
    """Of a machine whose startup script is include/builder/<kind>.sh."""
    return {
        "startup-script": (at.home / "include" / "builder" / f"{kind}.sh").read_text(),
        "enable-guest-attributes": "TRUE",
        "serial-port-logging-enable": "true",
        "llm-release-run": bootdisk.run_label(at.holder),
    }


def start(at: Surroundings, spec: NodeImages, wish: Wish) -> Wait:
    at.log(f"starting machine={wish.name} kind={spec.machine} zone={spec.zone}")
    return begun(
        lambda: at.machines.create_machine(spec.zone, wish),
        f"machine {wish.name} to start",
        exists=lambda: at.machines.machine(spec.zone, wish.name),
    )


def word_of(at: Surroundings, spec: NodeImages, machine: Machine, kind: str) -> Result | None:
    """What the machine said of its end: on its serial port, else by its guest attribute."""
    run = machine.labels.get(bootdisk.RUN, "")
    printed, _ = at.machines.serial(spec.zone, machine.name, 0)
    found = bootdisk.result(printed, kind=kind, run=run)
    if found is not None and not found.ok:
        for line in [line for line in printed.splitlines() if line.strip()][-_LINES_TOLD:]:
            at.log(f"{machine.name}: {line}")
    if found is None:
        told = at.machines.attribute(spec.zone, machine.name, bootdisk.WORD)
        found = bootdisk.result(bootdisk.spoken(told, kind=kind), kind=kind, run=run)
    return found


def delete_machine(at: Surroundings, zone: str, name: str) -> Wait:
    started = at.machines.delete_machine(zone, name)
    if started is None:
        raise Transient(
            f"machine {name} went away while it was looked at.", next_action="the task will try again."
        )
    return operation(started.name, zone, f"machine {name} to be deleted")


def remove(at: Surroundings, spec: NodeImages, name: str) -> Wait | None:
    """A machine and its disk go once they have done what they were made for."""
    if (started := at.machines.delete_machine(spec.zone, name)) is not None:
        return operation(started.name, spec.zone, f"machine {name} to be deleted")
    gone = at.disks.delete(spec.zone, name)
    return operation(gone.name, spec.zone, f"disk {name} to be deleted") if gone else None


def begun(
    start: Callable[[], Operation], what: str, *, exists: Callable[[], object], within: float = 300
) -> Wait:
    """Begins a change; one that another run has begun in the same moment is waited for."""
    try:
        started = start()
    except Conflict:
        if exists() is None:
            raise
        return soon(what)
    return operation(started.name, started.zone, what, within=within)


def operation(name: str, zone: str, what: str, *, within: float = 300) -> Wait:
    return Wait("operation", name, within, what, zone=zone)


def soon(what: str, *, seconds: float = 1.0) -> Wait:
    """Looks again in a moment."""
    return Wait("time", str(time.time() + seconds), 60, what)


def going(machine: Machine) -> Wait | None:
    """A machine that is being deleted has nothing to say any more: what to wait for, else None."""
    if machine.status not in ("STOPPING", "SUSPENDING"):
        return None
    return soon(f"machine {machine.name}, which is being deleted, to be gone", seconds=_GOING_S)
