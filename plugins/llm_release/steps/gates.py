"""Measures the candidate from inside the cluster: smoke and load, each a Job. It decides nothing."""

from __future__ import annotations

from typing import Any

from llm_release.steps import evidence, jobs, lock, manifests
from llm_release.steps.deploy import Deployed
from llm_release.steps.lock import Locked
from llm_release.steps.world import Wait, World

OVERHEAD_S = 300
"""Image pull, warm-up and the write of the evidence, on top of the measurement itself."""


def measure(
    world: World, kind: str, *, file: str, seconds: float, again: bool = False
) -> dict[str, Any] | Wait:
    """Runs (or adopts) the Job of one gate. -> its report, with the URI of the full evidence.

    The Job stays until the run is tidied up, so a step that runs again finds its measurement.

    Args:
        again: a second measurement in the same run.
    """
    lock.hold(world)
    body = manifests.gate_job(
        world.home,
        kind,
        spec=world.spec,
        cluster=world.cluster,
        release=world.release,
        attempt=f"{world.of(Locked).fence}{'b' if again else ''}",
        url=f"http://{world.of(Deployed).preview}",
        output=evidence.uri(world, file),
    )
    done = jobs.ensure(
        world, body, within=seconds + OVERHEAD_S, what=f"the {kind} test of {world.names.deployment}"
    )
    if isinstance(done, Wait):
        return done
    report = jobs.report(world, world.spec.namespace, done.name)
    if not report.get("stored"):
        evidence.keep_json(world, file, report)
    return {**report, "evidence": evidence.uri(world, file)}
