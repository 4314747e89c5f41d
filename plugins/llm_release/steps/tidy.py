"""Leaves nothing behind: gate Jobs, prompts, the preview; and of a candidate that was not promoted, its pods.

GPUs are dear, so the candidate's Deployment goes first, once its logs are kept. The sealed volume stays
for a retry. Runs at the end of every run that took the Lease, whatever happened in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.kubernetes import Ref
from llm_release.core import names as n
from llm_release.core.readiness import Job
from llm_release.steps import deploy, evidence, lock, observe
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
    promoted = observe.live(world).release == world.release.id
    removed: list[str] = []
    logs: list[str] = []
    if not promoted:
        logs += _keep_server_logs(world)
        removed += _gone(world, Ref("apps/v1", "Deployment", who.deployment, namespace))
    for job in world.kube.list("batch/v1", "Job", namespace, f"{n.RELEASE}={world.release.id}"):
        ref = Ref("batch/v1", "Job", job["metadata"]["name"], namespace)
        logs += _keep_job_log(world, world.kube.job(namespace, ref.name))
        removed += _gone(world, ref)
    removed += _gone(world, Ref("v1", "Service", who.preview, namespace))
    removed += _gone(world, Ref("v1", "ConfigMap", who.prompts, namespace))
    for what in removed:
        world.log(f"removed {what}")
    selector = deploy.server_selector(world)
    if not promoted and world.kube.pods(namespace, selector):
        return Wait(
            "pods", selector, world.spec.rollout.stop_within + 60, "the candidate's pods to end", namespace
        )
    return Tidied(tuple(removed), tuple(logs))


def _gone(world: World, ref: Ref) -> list[str]:
    return [str(ref)] if world.kube.delete(ref) else []


def _keep_server_logs(world: World) -> list[str]:
    kept = []
    for pod in world.kube.pods(world.spec.namespace, deploy.server_selector(world)):
        lines = [
            *world.kube.events(world.spec.namespace, pod.name),
            "",
            world.kube.pod_log(world.spec.namespace, pod.name, tail=500),
        ]
        kept.append(evidence.keep(world, f"logs/{pod.name}.txt", "\n".join(lines)))
    return kept


def _keep_job_log(world: World, job: Job | None) -> list[str]:
    if job is None:
        return []
    lines = [
        world.kube.pod_log(world.spec.namespace, pod.name, tail=500)
        for pod in world.kube.job_pods(world.spec.namespace, job.name)
    ]
    return [evidence.keep(world, f"logs/{job.name}.txt", "\n".join(lines))]
