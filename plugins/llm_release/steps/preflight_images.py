"""Preflight for clusters with secondary boot disks: what would fail only after minutes of building. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llm_release.core import gke
from llm_release.core.errors import Conflict, Permanent, ReleaseError
from llm_release.steps import image_work
from llm_release.steps.world import World

Check = Callable[[World], Iterator[ReleaseError]]


def _engine(world: World) -> None:
    world.registry.layers(world.release.image)


def _disk_image(world: World) -> None:
    names = image_work.of_release(world).names
    if (found := world.machines.image(names.image)) is not None:
        image_work.check_ours(found, names)


def _allow_list(world: World) -> None:
    want = image_work.of_release(world)
    if want.spec.mode != "standard":
        image_work.check_allowed(world, want.names)


def _cluster(world: World) -> Iterator[ReleaseError]:
    try:
        found = world.node_pools.cluster()
    except (Permanent, Conflict) as e:
        yield e
        return
    for finding in gke.findings(found, image_work.of_release(world).spec.mode):
        cause = f"GKE cluster {world.cluster.gke_cluster} does not fit node_images: {finding.cause}."
        if finding.refused:
            yield Permanent(cause, next_action=finding.next_action)
        else:
            world.log(f"warning {cause} Next: {finding.next_action}")


def _near(world: World) -> Iterator[ReleaseError]:
    """Never refuses: layers on the disk are used all the same, and the rest is pulled as ever."""
    image = world.release.image
    if why := gke.not_streamed(image, world.cluster.location):
        world.log(f"warning image streaming cannot serve {image}: {why}.")
    yield from ()


def _refusals(act: Callable[[World], None]) -> Check:
    """A refusal is one finding of several. What may be otherwise in a moment (Transient) ends the step, for a retry."""

    def check(world: World) -> Iterator[ReleaseError]:
        try:
            act(world)
        except (Permanent, Conflict) as e:
            yield e

    return check


CHECKS: tuple[tuple[str, Check], ...] = (
    ("engine image for linux/amd64 can be read", _refusals(_engine)),
    ("disk image is ours or not there", _refusals(_disk_image)),
    ("disk image is allowed in the cluster", _refusals(_allow_list)),
    ("GKE cluster fits node_images", _cluster),
    ("place of the engine image", _near),
)
"""Of a cluster that has node_images."""
