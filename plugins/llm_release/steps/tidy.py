"""Leaves nothing behind: gate Jobs, prompts, the preview; of a candidate that was not promoted, its pods and nodes.

GPUs are dear, so the candidate's Deployment goes first, once its logs are kept. The sealed volume stays
for a retry. Runs at the end of every run that took the Lease, whatever happened in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.kube_objects import Ref
from llm_release.core import names as n
from llm_release.core.errors import ReleaseError
from llm_release.core.readiness import Job
from llm_release.steps import deploy, evidence, lock, observe, retire_nodes
from llm_release.steps.world import Wait, World


@dataclass(frozen=True, slots=True)
class Tidied:
    STEP: ClassVar[str] = "close.tidy"
    removed: tuple[str, ...]
    logs: tuple[str, ...]
    """URIs of logs that were kept before their pods went."""


def run(world: World) -> Tidied | Wait:
    lock.hold(world, closing=True)
    namespace, who = world.spec.namespace, world.names
    live = observe.live(world)
    serves = live.serves(world.release.id)
    removed: list[str] = []
    logs: list[str] = []
    if not serves:
        logs += _keep_server_logs(world)
        removed += _without_pods(world, keep=live.previous == world.release.id)
    mine = f"{n.SERVICE}={world.spec.service},{n.RELEASE}={world.release.id}"
    for job in world.kube.list("batch/v1", "Job", namespace, mine):
        ref = Ref("batch/v1", "Job", job["metadata"]["name"], namespace)
        logs += _keep_job_log(world, world.kube.job(namespace, ref.name))
        removed += _gone(world, ref)
    removed += _gone(world, Ref("v1", "Service", who.preview, namespace))
    removed += _gone(world, Ref("v1", "ConfigMap", who.prompts, namespace))
    for what in removed:
        world.log(f"removed {what}")
    selector = deploy.server_selector(world)
    if not serves and world.kube.pods(namespace, selector):
        return Wait(
            "pods", selector, world.spec.rollout.stop_within + 60, "the candidate's pods to end", namespace
        )
    if not serves and isinstance(left := retire_nodes.remove(world, closing=True), Wait):
        return left
    return Tidied(tuple(removed), tuple(logs))


def _without_pods(world: World, *, keep: bool) -> list[str]:
    """Takes the candidate's pods away; the Deployment of the release before the live one stays restorable."""
    ref = Ref("apps/v1", "Deployment", world.names.deployment, world.spec.namespace)
    if not keep:
        return _gone(world, ref)
    if found := world.kube.deployment(ref.namespace, ref.name):
        world.kube.scale(ref.namespace, ref.name, 0)
        world.log(f"scaled {ref.name} from {found.replicas} to 0: it is the release before the live one")
    return []


def _gone(world: World, ref: Ref) -> list[str]:
    return [str(ref)] if world.kube.delete(ref) else []


def _keep_server_logs(world: World) -> list[str]:
    kept: list[str] = []
    for pod in world.kube.pods(world.spec.namespace, deploy.server_selector(world)):
        with _evidence_is_not_worth_a_gpu(world):
            lines = [
                *world.kube.events(world.spec.namespace, pod.name),
                "",
                world.kube.pod_log(world.spec.namespace, pod.name, tail=500),
            ]
            kept.append(evidence.keep(world, f"logs/{pod.name}.txt", "\n".join(lines)))
    return kept


def _keep_job_log(world: World, job: Job | None) -> list[str]:
    kept: list[str] = []
    if job is not None:
        with _evidence_is_not_worth_a_gpu(world):
            lines = [
                world.kube.pod_log(world.spec.namespace, pod.name, tail=500)
                for pod in world.kube.job_pods(world.spec.namespace, job.name)
            ]
            kept.append(evidence.keep(world, f"logs/{job.name}.txt", "\n".join(lines)))
    return kept


@contextlib.contextmanager
def _evidence_is_not_worth_a_gpu(world: World) -> Iterator[None]:
    """A log that cannot be kept is told, and what it is about is removed all the same."""
    try:
        yield
    except ReleaseError as e:
        world.log(f"a log is lost: {e}")
