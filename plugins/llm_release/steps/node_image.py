"""The secondary boot disk for the release's engine image: built when none exists for its digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.core import bootdisk
from llm_release.steps import image_build, image_work, lock
from llm_release.steps.image_work import Wanted
from llm_release.steps.world import Skipped, Wait, World


@dataclass(frozen=True, slots=True)
class NodeImage:
    STEP: ClassVar[str] = "stage.node_image"
    image: str
    id: str
    digest: str
    size_gib: int
    trees: str
    """sha256 over the hashes of all layers, as the build reported it."""
    verified: bool


def run(world: World) -> NodeImage | Wait:
    """
    Raises:
        Skipped: the cluster has no secondary boot disks.
        Permanent, Transient: the build failed; its reason, in the machine's own words.
    """
    want = wanted(world)
    image = image_build.build(world, want, lambda: lock.hold(world))
    if isinstance(image, Wait):
        return image
    verified = image_work.is_verified(image)
    world.log(f"image={image.name} id={image.id} size_gib={image.size_gib} verified={verified}")
    trees = image.labels.get(bootdisk.TREES, "")
    return NodeImage(image.name, image.id, want.names.digest, image.size_gib, trees, verified)


def wanted(world: World) -> Wanted:
    """Raises Skipped when the cluster has no secondary boot disks."""
    if world.cluster.node_images is None:
        raise Skipped(f"cluster {world.cluster.cluster} has no node_images: nodes pull the engine's image")
    return Wanted((world.release.image,), world.cluster.node_images)
