"""Is it done, will it ever be, and what would a person be told? Pure functions of observed status.

Modelled on how a rollout is judged by kubectl and Flagger: one value with a state and one sentence. The
order of the checks matters: a permanent cause is reported before "still waiting".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["done", "waiting", "failed"]

DENIED_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
HOPELESS_START = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
RESTARTS_ALLOWED = 1
"""A pod that failed twice before its first Ready fails a third time; GPUs are dear (catalogue F41, F44)."""


@dataclass(frozen=True, slots=True)
class Container:
    """Status of one container of a pod."""

    name: str
    image_id: str
    ready: bool
    restarts: int
    waiting_reason: str = ""
    waiting_message: str = ""
    exit_code: int | None = None
    """Of the present end, or of the last one when it was started again."""
    exit_reason: str = ""
    exit_message: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """What a decision needs of a pod."""

    name: str
    phase: str
    ready: bool
    labels: tuple[tuple[str, str], ...]
    containers: tuple[Container, ...]
    address: str = ""
    node: str = ""
    reason: str = ""
    """status.reason: Evicted, NodeLost, ..."""
    unschedulable: str = ""
    """The scheduler's own sentence while it finds no node."""
    disrupted: str = ""
    """Reason of a DisruptionTarget condition: eviction, preemption, node shutdown."""
    terminating: bool = False

    def label(self, key: str) -> str:
        return dict(self.labels).get(key, "")


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    uid: str
    finished: Literal["", "complete", "failed"]
    reason: str = ""
    message: str = ""
    started_at: str = ""
    finished_at: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Replica counts of a Deployment, as its status has them."""

    name: str
    generation: int
    observed_generation: int
    replicas: int
    """Wanted."""
    updated: int
    ready: int
    available: int
    total: int
    """Pods that exist, old ones included."""
    labels: tuple[tuple[str, str], ...] = ()
    deadline_exceeded: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """A verdict on a wait; `message` is a sentence for a person, `next_action` only when it failed."""

    state: State
    message: str
    next_action: str = ""
    final: bool = False
    """Failed, and there is nothing that the step could still find out about it."""
    again: bool = False
    """Failed for a reason that may pass."""


def rollout(
    deployment: Deployment | None, pods: Sequence[Pod], *, unschedulable_for: float, patience: float
) -> Readiness:
    """Judges a candidate's Deployment.

    Args:
        deployment: None when it does not exist (somebody removed it).
        unschedulable_for: seconds since a pod was first seen without a node, 0 when all have one.
        patience: seconds to let an autoscaler find a node before saying that there is none.
    """
    if deployment is None:
        return Readiness(
            "failed", "the candidate's Deployment is gone.", "find out who deleted it, then trigger again."
        )
    for pod in pods:
        hopeless = pod_failure(pod)
        if hopeless:
            return hopeless
    waiting = next((p for p in pods if p.unschedulable), None)
    if waiting and unschedulable_for > patience:
        return no_node(waiting, unschedulable_for)
    if deployment.observed_generation < deployment.generation:
        return Readiness("waiting", "the controller has not seen the Deployment yet.")
    if deployment.deadline_exceeded:
        return Readiness("failed", deployment.deadline_exceeded, "read the engine's log of the last pod.")
    if deployment.updated < deployment.replicas or deployment.available < deployment.replicas:
        return Readiness("waiting", _progress(deployment, pods))
    if deployment.total > deployment.replicas:
        return Readiness(
            "waiting", f"{deployment.total - deployment.replicas} pods of before are still ending."
        )
    return Readiness("done", f"{deployment.available} of {deployment.replicas} pods are ready.")


def job(status: Job | None, pods: Sequence[Pod], *, unschedulable_for: float, patience: float) -> Readiness:
    """Judges a Job by its conditions; pods only explain, and end a wait that can never succeed."""
    if status is None:
        # Over, but no verdict: the step looks for itself, and makes the Job again.
        return Readiness("done", "the Job is gone.")
    if status.finished == "complete":
        return Readiness("done", f"Job {status.name} is complete.")
    if status.finished == "failed":
        return Readiness("failed", _job_failure(status, pods), "read the last lines of its log above.")
    for pod in pods:
        if pull := _pull_denied(pod):
            return pull
    waiting = next((p for p in pods if p.unschedulable), None)
    if waiting and unschedulable_for > patience:
        return no_node(waiting, unschedulable_for)
    return Readiness("waiting", _pods_say(pods) or f"Job {status.name} has no pod yet.")


def no_node(pod: Pod, waited: float) -> Readiness:
    """A pod that no node takes, in the scheduler's own words."""
    gpu = "nvidia.com/gpu" in pod.unschedulable
    return Readiness(
        "failed",
        f"no node takes pod {pod.name} after {waited:.0f} s: {pod.unschedulable}.",
        "free GPUs or raise the quota: both releases run for a while."
        if gpu
        else "check node pools, selectors and taints.",
    )


def pod_failure(pod: Pod) -> Readiness | None:
    """A pod of a Deployment that will not become ready whatever one waits for; None while it may."""
    if pull := _pull_denied(pod):
        return pull
    for c in pod.containers:
        if c.waiting_reason in HOPELESS_START:
            return Readiness(
                "failed",
                f"pod {pod.name} cannot start: {c.waiting_message or c.waiting_reason}.",
                "correct the manifest or the secret that it names.",
            )
        if c.restarts > RESTARTS_ALLOWED and not c.ready:
            why = (
                "ran out of memory" if c.exit_reason == "OOMKilled" else f"ended with exit code {c.exit_code}"
            )
            hint = (
                "raise engine.memory or lower engine.max_model_len."
                if c.exit_reason == "OOMKilled"
                else "read the engine's log in the evidence."
            )
            return Readiness(
                "failed", f"{c.name} in pod {pod.name} {why} {c.restarts + 1} times.{_said(c)}", hint
            )
    return None


def _pull_denied(pod: Pod) -> Readiness | None:
    for c in pod.containers:
        if c.waiting_reason in DENIED_PULL and _final(c.waiting_message):
            return Readiness(
                "failed",
                f"the image of pod {pod.name} cannot be pulled: {c.waiting_message}.",
                "check the image's name and the node's right to read it.",
            )
    return None


def _final(message: str) -> bool:
    """Not found and denied stay so; a registry that answers 5xx or not at all may come back."""
    text = message.lower()
    return any(
        w in text
        for w in (
            "not found",
            "denied",
            "unauthorized",
            "forbidden",
            "manifest unknown",
            "invalid reference",
            "no match for platform",
        )
    )


def _progress(d: Deployment, pods: Sequence[Pod]) -> str:
    return f"{d.available} of {d.replicas} pods are ready" + (
        f"; {said}" if (said := _pods_say(pods)) else "."
    )


def _pods_say(pods: Sequence[Pod]) -> str:
    for pod in pods:
        if pod.unschedulable:
            return f"pod {pod.name} waits for a node: {pod.unschedulable}."
        for c in pod.containers:
            if c.waiting_reason and c.waiting_reason != "ContainerCreating":
                return f"pod {pod.name}: {c.waiting_reason} {c.waiting_message}".rstrip() + "."
        if not pod.ready and pod.phase not in ("Succeeded", "Failed"):
            return f"pod {pod.name} is {pod.phase.lower() or 'new'}{_on(pod)}."
    return ", ".join(f"pod {p.name} is {p.phase.lower()}{_on(p)}" for p in pods[-1:]) + ("." if pods else "")


def _on(pod: Pod) -> str:
    return f" on {pod.node}" if pod.node else ""


def _job_failure(status: Job, pods: Sequence[Pod]) -> str:
    for pod in reversed(pods):
        if pod.disrupted or pod.reason:
            return f"Job {status.name} failed: pod {pod.name} was ended from outside ({pod.disrupted or pod.reason})."
        for c in pod.containers:
            if c.exit_reason == "OOMKilled":
                return f"Job {status.name} failed: {c.name} ran out of memory."
            if c.exit_code:
                return f"Job {status.name} failed: {c.name} ended with exit code {c.exit_code}.{_said(c)}"
    return f"Job {status.name} failed: {status.reason} {status.message}".rstrip()


def _said(c: Container) -> str:
    text = c.exit_message.strip()
    return f" It said: {text[-400:]}" if text else ""
