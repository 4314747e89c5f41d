"""Deletes the disk images of ours that nothing names any more: the last part of DAG `node_image`, when asked for.

Every cluster of the project is asked, because images belong to the project. Where one cannot be asked nothing goes.
The Leases are looked at once more before each deletion; a release that begins in that very moment finds at its next
step that the image is gone, and builds it when it is cleared.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from llm_release.core import imagesweep
from llm_release.core.errors import ReleaseError
from llm_release.core.imagesweep import Found, Use
from llm_release.core.request import ImageRequest
from llm_release.steps import image_users
from llm_release.steps.image_request import Resolved
from llm_release.steps.world import Skipped, Surroundings


@dataclass(frozen=True, slots=True)
class Swept:
    STEP: ClassVar[str] = "sweep"
    deleted: tuple[str, ...]
    """Images whose deletion Compute has begun."""
    kept: Mapping[str, str]
    """Image -> why it stays."""


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
    if busy := _busy(clusters):
        at.log(f"nothing is deleted: {busy}")
        return Swept((), {i.name: busy for i in images})
    resolved, now = at.maybe(Resolved), datetime.datetime.now(datetime.UTC)
    choice = imagesweep.choose(images, _uses(clusters), own=resolved.image if resolved else "", now=now)
    for name, why in choice.kept.items():
        at.log(f"kept image={name}: {why}")
    kept, deleted = dict(choice.kept), []
    for name in choice.delete:
        if busy := busy or _busy(clusters):
            at.log(f"kept image={name}: {busy}")
            kept[name] = busy
        elif _delete(at, name):
            deleted.append(name)
    return Swept(tuple(deleted), kept)


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


def _delete(at: Surroundings, name: str) -> bool:
    """False when somebody else was faster."""
    started = at.machines.delete_image(name)
    if started is None:
        at.log(f"image={name} is gone already")
        return False
    if started.error:
        raise started.error
    at.log(f"deleting image={name}: nothing names it")
    return True
