"""Proof that the secondary boot disk holds the engine's image; before that no node is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.steps import image_verify, image_work, lock
from llm_release.steps.node_image import NodeImage
from llm_release.steps.world import Wait, World


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    STEP: ClassVar[str] = "stage.verify_image"
    image: str
    id: str


def run(world: World) -> VerifiedImage | Wait:
    """
    Raises:
        Skipped: the cluster has no secondary boot disks.
        Permanent: the image holds something else than it should; it was deleted.
    """
    found = image_verify.verify(
        world, image_work.of_release(world), world.of(NodeImage).id, lambda: lock.hold(world)
    )
    return found if isinstance(found, Wait) else VerifiedImage(found.name, found.id)
