"""Run or adopt a Job, and read what it reported. The names are deterministic: there is never a second one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llm_release.clients.kube_objects import Ref, refuse_foreign
from llm_release.core.errors import Permanent, Transient
from llm_release.core.readiness import Job, Pod
from llm_release.steps.world import Wait, World


def ensure(world: World, body: Mapping[str, Any], *, within: float, what: str) -> Wait | Job:
    """Creates the Job, or adopts the one that is there. -> the finished Job, or what to wait for.

    A failed Job of an earlier try is deleted and made again; one that failed while this try waited for it
    is a failure, told in the words of its own report.
    """
    ref = Ref.of(body)
    found = world.kube.get(ref)
    refuse_foreign(ref, found, world.spec.service)
    if found and found["metadata"].get("deletionTimestamp"):
        return _ending(ref)
    status = world.kube.job(ref.namespace, ref.name) if found else None
    if status and status.finished == "complete":
        world.log(f"adopted Job {ref.name}, finished {status.finished_at}")
        return status
    if status and status.finished == "failed":
        if world.resumed:
            raise failure(world, status)
        world.log(f"Job {ref.name} of an earlier try failed ({status.reason}): made again")
        world.kube.delete(ref)
        return _ending(ref)
    if status is None:
        world.kube.apply(body)
        world.log(f"created Job {ref.namespace}/{ref.name}")
    else:
        world.log(f"adopted Job {ref.name}, running since {status.started_at}")
    return Wait("job", ref.name, within, what, ref.namespace, patience=world.spec.rollout.node_within)


def _ending(ref: Ref) -> Wait:
    # Its pods go first (foreground deletion); what is left of the Job then, apply waits for.
    pods = f"batch.kubernetes.io/job-name={ref.name}"
    return Wait("pods", pods, 120, f"the pods of the old Job {ref.name} to be gone", ref.namespace)


def report(world: World, namespace: str, job: str) -> dict[str, Any]:
    """The result document of a complete Job, from its pod's termination message (or, if that is lost, its log)."""
    pods = world.kube.job_pods(namespace, job)
    for pod in reversed(pods):
        if found := _message(pod):
            return found
    for pod in reversed(pods):
        lines = world.kube.pod_log(namespace, pod.name, tail=5).splitlines()
        for line in reversed(lines):
            if line.startswith("result "):
                found = json.loads(line.removeprefix("result "))
                assert isinstance(found, dict)
                return found
    world.kube.delete(Ref("batch/v1", "Job", job, namespace))
    raise Transient(
        f"Job {job} is complete and its report is lost (its pod is gone).",
        next_action="the task tries again with a new Job.",
    )


def failure(world: World, status: Job) -> Exception:
    """What a failed Job means: its own words when it left some."""
    namespace = world.spec.namespace
    pods = world.kube.job_pods(namespace, status.name)
    for pod in reversed(pods):
        found = _message(pod)
        if found and isinstance(error := found.get("error"), Mapping):
            kind = Permanent if error.get("class") == "permanent" else Transient
            return kind(str(error.get("cause")), next_action=str(error.get("next")))
    from llm_release.core import readiness

    told = readiness.job(status, pods, unschedulable_for=0, patience=0)
    return Transient(told.message, next_action=told.next_action)


def log_tail(world: World, namespace: str, job: str, lines: int = 40) -> str:
    pods = world.kube.job_pods(namespace, job)
    return world.kube.pod_log(namespace, pods[-1].name, tail=lines) if pods else ""


def _message(pod: Pod) -> dict[str, Any] | None:
    for container in pod.containers:
        text = container.exit_message.strip()
        if text.startswith("{"):
            try:
                found = json.loads(text)
            except ValueError:
                continue
            if isinstance(found, dict):
                return found
    return None
