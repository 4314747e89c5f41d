"""What building and verifying a disk image share: what is wanted, and the machines that do the work.

Names come from the images' digests, so two runs that want the same disk image drive the same work: whoever looks
next takes the next step, and what another has done is found done. What a run has made carries the run's label, and
goes with the run; what it finds without a machine it makes its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llm_release.core import bootdisk, nodeplace
from llm_release.core.bootdisk import Names, Result
from llm_release.core.clusterspec import NodeImages
from llm_release.core.errors import Conflict, Permanent
from llm_release.steps.lock import Locked
from llm_release.steps.world import Skipped, Surroundings, Wait, World

if TYPE_CHECKING:
    from llm_release.clients.compute import Disk
    from llm_release.clients.machines import Image, Machine, Wish
    from llm_release.clients.operations import Operation

_GOING_S = 3.0
KILLED_WITHIN_S = 15.0
"""A task that was marked failed works on until Airflow's next look at it, 5 s, and 5 s more to be ended by force."""
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
    """A person asked for it; no release did."""

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
    work = Work(at, wanted)
    for name in (work.names.builder, work.names.verifier):
        machine = at.machines.machine(work.zone, name)
        if machine is not None and work.mine(machine):
            at.log(f"deleting machine={name}")
            return work.delete_machine(name)
    for name in (work.names.builder, work.names.verifier):
        disk = at.disks.get(work.zone, name)
        # one that is in use is another run's machine's now
        if disk is not None and work.mine(disk) and not disk.users:
            at.log(f"deleting disk={name}")
            return work.delete_disk(name)
    return None


def end_for_good(at: Surroundings, wanted: Wanted, *, verified: bool) -> Wait | None:
    """As `end`, for a run that may have been ended by force: its task may make something more for a moment.

    Args:
        verified: the run came to its end by itself; there is no such task.
    """
    left = at.began + KILLED_WITHIN_S - time.time()
    ending = end(at, wanted)
    if ending is None and not verified and left > 0:
        return soon("a task that may have been killed to make nothing more", seconds=left)
    return ending


class _Labelled(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Work:
    """One run's work on one disk image.

    Args:
        hold: is called right before anything is changed; raises when this run may not.
    """

    at: Surroundings
    wanted: Wanted
    hold: Callable[[], None] = lambda: None

    @property
    def names(self) -> Names:
        return self.wanted.names

    @property
    def zone(self) -> str:
        return self.wanted.spec.zone

    @property
    def labels(self) -> dict[str, str]:
        """Of everything that this run makes for the disk image."""
        return self.names.labels | {bootdisk.RUN: bootdisk.run_label(self.at.holder)}

    def mine(self, thing: _Labelled) -> bool:
        return thing.labels.get(bootdisk.RUN) == bootdisk.run_label(self.at.holder)

    def check_ours(self, thing: _Labelled, kind: str) -> None:
        """Raises Permanent when a machine or disk of our name was made by somebody else."""
        if self.names.labels.items() - thing.labels.items():
            raise Permanent(
                f"{kind} {thing.name} exists and is not ours.",
                next_action=f"delete or rename that {kind}; nothing was changed.",
            )

    def begin(
        self,
        start: Callable[[], Operation],
        what: str,
        *,
        exists: Callable[[], object] = lambda: True,
        within: float = 300,
    ) -> Wait:
        """Begins a change; one that another run has begun in the same moment is waited for.

        Args:
            exists: whether what was to be made is there; a conflict without it is somebody else's doing.
        """
        self.hold()
        try:
            started = start()
        except Conflict:
            if not exists():
                raise
            return soon(what)
        return Wait("operation", started.name, within, what, zone=started.zone)

    def adopt(self, disk: Disk) -> Wait | None:
        """A disk that another run made and has no machine for becomes this run's."""
        if self.mine(disk):
            return None
        labels = {**disk.labels, **self.labels}
        return self.begin(lambda: self.at.disks.label(disk, labels), f"disk {disk.name} to be labelled")

    def start(self, wish: Wish) -> Wait:
        self.at.log(f"starting machine={wish.name} kind={wish.kind} zone={self.zone}")
        return self.begin(
            lambda: self.at.machines.create_machine(self.zone, wish),
            f"machine {wish.name} to start",
            exists=lambda: self.at.machines.machine(self.zone, wish.name),
        )

    def metadata(self, kind: str) -> dict[str, str]:
        """Of a machine whose startup script is include/builder/<kind>.sh."""
        return {
            "startup-script": (self.at.home / "include" / "builder" / f"{kind}.sh").read_text(),
            "enable-guest-attributes": "TRUE",
            "llm-release-run": bootdisk.run_label(self.at.holder),
        }

    def word(self, machine: Machine, kind: str) -> Result | None:
        """What the machine said of its end: on its serial port, else by its guest attribute."""
        run = machine.labels.get(bootdisk.RUN, "")
        printed, _ = self.at.machines.serial(self.zone, machine.name, 0)
        found = bootdisk.result(printed, kind=kind, run=run)
        if found is None:
            told = self.at.machines.attribute(self.zone, machine.name, bootdisk.WORD)
            found = bootdisk.result(bootdisk.spoken(told, kind=kind), kind=kind, run=run)
        if found is None and bootdisk.SCRIPT_ENDED in printed:
            found = bootdisk.NO_WORD
        if found is not None and not found.ok:
            for line in [line for line in printed.splitlines() if line.strip()][-_LINES_TOLD:]:
                self.at.log(f"{machine.name}: {line}")
        return found

    def over(self, machine: Machine) -> Wait | None:
        """A machine that says nothing any more is taken away; None for one that runs."""
        if machine.status in ("STOPPING", "SUSPENDING", "PENDING_STOP", "DEPROVISIONING"):
            return soon(f"machine {machine.name}, which is {machine.status}, to be gone", seconds=_GOING_S)
        if machine.status in ("TERMINATED", "STOPPED", "SUSPENDED"):
            self.at.log(f"machine {machine.name} is {machine.status}: deleting it")
            return self.delete_machine(machine.name)
        return None

    def delete_machine(self, name: str) -> Wait:
        return self._delete(lambda: self.at.machines.delete_machine(self.zone, name), f"machine {name}")

    def delete_disk(self, name: str) -> Wait:
        return self._delete(lambda: self.at.disks.delete(self.zone, name), f"disk {name}")

    def delete_image(self) -> Wait:
        name = self.names.image
        return self._delete(lambda: self.at.machines.delete_image(name), f"image {name}")

    def _delete(self, start: Callable[[], Operation | None], thing: str) -> Wait:
        self.hold()
        started, what = start(), f"{thing} to be deleted"
        return Wait("operation", started.name, 300, what, zone=started.zone) if started else soon(what)

    def remove(self, name: str) -> Wait | None:
        """The machine and the disk of that name go once they have done what they were made for."""
        if (machine := self.at.machines.machine(self.zone, name)) is not None:
            self.check_ours(machine, "machine")
            return self.over(machine) or self.delete_machine(name)
        if (disk := self.at.disks.get(self.zone, name)) is not None:
            self.check_ours(disk, "disk")
            return self.delete_disk(name)
        return None


def soon(what: str, *, seconds: float = 1.0) -> Wait:
    """Looks again in a moment."""
    return Wait("time", str(time.time() + seconds), 60, what)
