"""Deletes the disk images of ours that nothing names any more: the last part of DAG `node_image`, when asked for.

Disks go too that a build has left. Every cluster with a file here is asked, because images belong to the project. Where
one cannot be asked nothing goes. The Leases are looked at once more before each deletion; a release that begins in that
very moment finds at its next step that the image is gone, and builds it when it is cleared.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from llm_release.core import imagesweep
from llm_release.core.errors import Conflict, ReleaseError
from llm_release.core.imagesweep import Found, FoundDisk, Use
from llm_release.core.request import ImageRequest
from llm_release.steps import image_users
from llm_release.steps.image_request import Resolved
from llm_release.steps.world import Skipped, Surroundings

if TYPE_CHECKING:
    from llm_release.clients.operations import Operation

_MOST_KEPT = 50
"""In the facts, which must stay small; the log has them all."""


@dataclass(frozen=True, slots=True)
class Swept:
    STEP: ClassVar[str] = "sweep"
    deleted: tuple[str, ...]
    """Images, and disks as <zone>/<name>, whose deletion Compute has begun."""
    kept: Mapping[str, str]
    """Image or disk -> why it stays; the first 50 by name."""


def run(at: Surroundings, request: ImageRequest, clusters: Sequence[Surroundings]) -> Swept:
    """
    Args:
        clusters: every cluster that can have nodes with images of this project.

    Raises:
        Skipped: it was not asked for.
        Permanent, Transient, Unavailable: a cluster or a record could not be read; nothing was deleted.
    """
    if not request.sweep:
        raise Skipped("the form does not ask to delete disk images (sweep).")
    found = at.machines.images(labels=imagesweep.OURS)
    images = [Found(i.name, i.status, i.labels, i.created) for i in found]
    disks = _leftovers(at, clusters)
    sweep = _Sweep(at, clusters, _busy(clusters))
    if sweep.busy:
        at.log(f"nothing is deleted: {sweep.busy}")
        for name in (*(i.name for i in images), *(d.shown for d in disks)):
            sweep.keep(name, sweep.busy)
        return sweep.swept()
    resolved, now = at.maybe(Resolved), datetime.datetime.now(datetime.UTC)
    own = resolved.image if resolved else ""
    choice = imagesweep.choose(images, _uses(clusters), own=own, now=now)
    for name, why in choice.kept.items():
        sweep.keep(name, why)
    for name in choice.delete:
        sweep.delete(name, functools.partial(_delete, at, name))
    for disk in disks:
        if why := imagesweep.disk_kept(disk, own=own, now=now):
            sweep.keep(disk.shown, why)
        else:
            sweep.delete(disk.shown, functools.partial(_delete_disk, at, disk))
    return sweep.swept()


def _leftovers(at: Surroundings, clusters: Sequence[Surroundings]) -> list[FoundDisk]:
    """Disks of builds in every zone that the clusters build in."""
    zones = {c.cluster.node_images.zone for c in clusters if c.cluster.node_images}
    found = [d for zone in sorted(zones) for d in at.disks.list(zone, labels=imagesweep.OURS)]
    disks = [FoundDisk(d.name, d.zone, d.labels, d.users, d.created) for d in found]
    return [d for d in disks if imagesweep.leftover(d)]


@dataclass(slots=True)
class _Sweep:
    """What goes and what stays. Once somebody releases anything, all the rest stays."""

    at: Surroundings
    clusters: Sequence[Surroundings]
    busy: str
    deleted: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    def keep(self, name: str, why: str) -> None:
        self.at.log(f"kept {name}: {why}")
        self.kept[name] = why

    def delete(self, name: str, act: Callable[[], bool]) -> None:
        self.busy = self.busy or _busy(self.clusters)
        if self.busy:
            self.keep(name, self.busy)
            return
        try:
            gone = act()
        except Conflict as e:  # somebody has begun to use it
            self.keep(name, e.cause)
        else:
            self.deleted += [name] if gone else []

    def swept(self) -> Swept:
        return Swept(tuple(self.deleted), dict(sorted(self.kept.items())[:_MOST_KEPT]))


def _busy(clusters: Sequence[Surroundings]) -> str:
    """Who releases anything in any cluster, empty for nobody: a candidate may be about to name what nothing names."""
    for cluster in clusters:
        with _asked(cluster):
            if found := image_users.releasing(cluster):
                return f"{found} in cluster {cluster.cluster.cluster}"
    return ""


def _uses(clusters: Sequence[Surroundings]) -> list[Use]:
    found: list[Use] = []
    for cluster in clusters:
        with _asked(cluster):
            uses = list(image_users.users(cluster))
        found += [Use(use.image, f"{use.by} in cluster {cluster.cluster.cluster}") for use in uses]
    return found


@contextlib.contextmanager
def _asked(cluster: Surroundings) -> Iterator[None]:
    """A failure says what it means here; its kind stays, which decides whether the task is tried again."""
    try:
        yield
    except ReleaseError as e:
        e.cause = (
            f"disk images were left: cluster {cluster.cluster.cluster} does not tell what it needs: {e.cause}"
        )
        raise


def _begun(at: Surroundings, started: Operation | None, what: str, why: str) -> bool:
    """Tells of a deletion; False when somebody else was faster."""
    if started is None:
        at.log(f"{what} is gone already")
        return False
    if started.error:
        raise started.error
    at.log(f"deleting {what}: {why}")
    return True


def _delete(at: Surroundings, name: str) -> bool:
    return _begun(at, at.machines.delete_image(name), f"image={name}", "nothing names it")


def _delete_disk(at: Surroundings, disk: FoundDisk) -> bool:
    return _begun(at, at.disks.delete(disk.zone, disk.name), f"disk={disk.shown}", "a build has left it")
