"""The secondary boot disk for the release's engine image: built when none exists for its digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from llm_release.core import bootdisk
from llm_release.steps import image_build, image_work, lock
from llm_release.steps.image_work import Wanted
from llm_release.steps.world import Wait, World

if TYPE_CHECKING:
    from llm_release.clients.machines import Image


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

    @classmethod
    def of(cls, image: Image, want: Wanted) -> NodeImage:
        verified, trees = bootdisk.is_verified(image.labels), image.labels.get(bootdisk.TREES, "")
        return cls(image.name, image.id, want.names.digest, image.size_gib, trees, verified)


def run(world: World) -> NodeImage | Wait:
    """
    Raises:
        Skipped: the cluster has no secondary boot disks.
        Permanent, Transient: the build failed; its reason, in the machine's own words.
    """
    want = image_work.of_release(world)
    image = image_build.build(world, want, lambda: lock.hold(world))
    if isinstance(image, Wait):
        return image
    found = NodeImage.of(image, want)
    world.log(f"image={found.image} id={found.id} size_gib={found.size_gib} verified={found.verified}")
    return found
