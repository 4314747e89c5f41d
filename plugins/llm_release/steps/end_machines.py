"""Deletes the machines and disks of this run that build and verify disk images.

A step of its own, beside tidy, because it needs Compute alone: machines that cost money do not stay when the cluster's
API server is away. It runs as soon as no task of the run builds any more, whatever became of the build.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.steps import image_work
from llm_release.steps.verify_image import VerifiedImage
from llm_release.steps.world import Wait, World


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing that built or verified is left."""

    STEP: ClassVar[str] = "close.end_machines"


def run(world: World) -> Ended | Wait:
    """
    Raises:
        Skipped: the cluster has no secondary boot disks.
    """
    verified = world.maybe(VerifiedImage) is not None
    return image_work.end_for_good(world, image_work.of_release(world), verified=verified) or Ended()
