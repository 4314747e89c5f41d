"""For gated or private repositories: proves in the cluster that the mounted token may download.

Airflow never holds the token, so only a Job can tell "no token" from "terms not accepted" before a disk
is paid for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.kube_objects import Ref
from llm_release.steps import evidence, jobs, lock
from llm_release.steps.world import Wait, World


@dataclass(frozen=True, slots=True)
class Access:
    STEP: ClassVar[str] = "stage.access"
    needed: bool


def run(world: World) -> Access | Wait:
    if not world.release.gated:
        world.log("the repository is open: no token is needed")
        return Access(False)
    lock.hold(world)
    body = evidence.manifest(world, "access-job")
    try:
        found = jobs.ensure(world, body, within=300, what=f"the proof of access to {world.release.repo}")
    except Exception:
        world.kube.delete(Ref.of(body))
        raise
    if isinstance(found, Wait):
        return found
    world.kube.delete(Ref.of(body))
    return Access(True)
