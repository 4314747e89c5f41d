"""Fills the volume from the hub, in the cluster, and keeps the proof of what was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.compute import READ_ONLY_MANY
from llm_release.clients.kube_objects import Ref, refuse_foreign
from llm_release.core.errors import Permanent
from llm_release.core.strict import encode
from llm_release.steps import disk, evidence, jobs, lock
from llm_release.steps.disk import Volume
from llm_release.steps.world import Wait, World

KEPT = "hydrate.json"


@dataclass(frozen=True, slots=True)
class Hydrated:
    STEP: ClassVar[str] = "stage.hydrate"
    bytes: int
    fetched_bytes: int
    """Over the wire in this Job; less than `bytes` after a resume."""
    files: int
    seconds: float
    listing: str


def run(world: World) -> Hydrated | Wait:
    found = disk.owned(world, id=world.of(Volume).id)
    if found.access_mode == READ_ONLY_MANY:
        return _sealed_before(world)
    lock.hold(world)
    for file in ("staging-pv", "staging-pvc"):
        body = evidence.manifest(world, file)
        refuse_foreign(Ref.of(body), world.kube.get(Ref.of(body)), world.spec.service)
        world.kube.apply(body)
    job = evidence.manifest(world, "hydrate-job")
    done = jobs.ensure(
        world,
        job,
        within=world.spec.hydration_within,
        what=f"{world.release.total_bytes} bytes of {world.release.repo}",
    )
    if isinstance(done, Wait):
        return done
    told = jobs.report(world, world.spec.namespace, done.name)
    facts = Hydrated(
        int(told["bytes"]),
        int(told["fetched_bytes"]),
        int(told["files"]),
        float(told["seconds"]),
        str(told["listing"]),
    )
    if facts.listing != world.release.listing or told["commit"] != world.release.commit:
        raise Permanent(
            f"the volume holds {told['commit']} ({facts.listing}), not what was resolved.",
            next_action="delete the disk and trigger again.",
        )
    evidence.keep_json(world, KEPT, encode(facts))
    world.log(
        f"bytes={facts.bytes} fetched={facts.fetched_bytes} files={facts.files} seconds={facts.seconds:.1f}"
    )
    return facts


def _sealed_before(world: World) -> Hydrated:
    """A sealed volume was verified before it was sealed, and cannot have changed since."""
    kept = evidence.read_json(world, KEPT)
    if kept is None:
        raise Permanent(
            f"disk {world.names.disk} is sealed and the proof of its content is not in the store.",
            next_action="delete that disk and trigger again: a new one is filled.",
        )
    world.log("the disk of this release is filled and sealed already: kept")
    return Hydrated(int(kept["bytes"]), 0, int(kept["files"]), 0.0, str(kept["listing"]))
