"""Gives the Lease back. The last thing of every run that took it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.steps import lock
from llm_release.steps.world import World


@dataclass(frozen=True, slots=True)
class Unlocked:
    STEP: ClassVar[str] = "close.unlock"
    released: bool
    """False when the Lease was not this run's any more."""


def run(world: World) -> Unlocked:
    released = lock.release(world)
    world.log("lease released" if released else "the lease was not ours any more")
    return Unlocked(released)
