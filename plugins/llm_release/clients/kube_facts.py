"""The Kubernetes API's JSON becomes the typed facts that decisions are made of. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llm_release.core.coldstart import Event, PodTimes
from llm_release.core.enginelog import unix
from llm_release.core.readiness import Container, Deployment, Job, Pod

Json = Mapping[str, Any]

_IN_CONTAINER = re.compile(r"spec\.(?:initC|c)ontainers\{(.+)\}")


def pod(o: Json) -> Pod:
    status, meta = o.get("status", {}), o["metadata"]
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled, ready = conditions.get("PodScheduled", {}), conditions.get("Ready", {})
    disruption = conditions.get("DisruptionTarget", {})
    every = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return Pod(
        name=meta["name"],
        phase=status.get("phase", ""),
        ready=ready.get("status") == "True",
        labels=_labels(meta),
        containers=tuple(_container(c) for c in every),
        address=status.get("podIP", ""),
        node=o.get("spec", {}).get("nodeName") or "",
        reason=status.get("reason", ""),
        unschedulable=scheduled.get("message", "") if scheduled.get("reason") == "Unschedulable" else "",
        disrupted=disruption.get("reason", "") if disruption.get("status") == "True" else "",
        terminating="deletionTimestamp" in meta,
    )


def pod_times(o: Json, container: str) -> PodTimes:
    """Moments of a pod and of one of its containers; a container that does not run has not started."""
    status = o.get("status", {})
    held = [c for c in status.get("conditions") or () if c.get("status") == "True"]
    own: Json = next((c for c in status.get("containerStatuses") or () if c["name"] == container), {})
    return PodTimes(
        container=container,
        created=o["metadata"].get("creationTimestamp") or "",
        conditions={c["type"]: c.get("lastTransitionTime") or "" for c in held},
        started=own.get("state", {}).get("running", {}).get("startedAt") or "",
        restarts=own.get("restartCount", 0),
    )


def event(o: Json) -> Event:
    """An event of either API: those of events.k8s.io (the scheduler's) have an eventTime and no firstTimestamp."""
    about = _IN_CONTAINER.fullmatch(o.get("involvedObject", {}).get("fieldPath") or "")
    return Event(
        reason=o.get("reason") or "",
        at=o.get("eventTime") or o.get("firstTimestamp") or o["metadata"].get("creationTimestamp") or "",
        message=o.get("message") or "",
        container=about[1] if about else "",
    )


def event_last_seen(o: Json) -> float:
    """Unix seconds."""
    return unix(o.get("lastTimestamp") or o.get("eventTime") or "")


def job(o: Json) -> Job:
    """A condition counts only when its status is "True"; "False" is as truthy a string."""
    status, meta = o.get("status", {}), o["metadata"]
    held = [c for c in status.get("conditions") or () if c.get("status") == "True"]
    complete = next((c for c in held if c["type"] == "Complete"), None)
    failed = next((c for c in held if c["type"] == "Failed"), None)
    end = complete or failed or {}
    return Job(
        name=meta["name"],
        uid=meta["uid"],
        finished="complete" if complete else "failed" if failed else "",
        reason=end.get("reason", ""),
        message=end.get("message", ""),
        started_at=status.get("startTime", ""),
        finished_at=status.get("completionTime") or end.get("lastTransitionTime", ""),
    )


def deployment(o: Json) -> Deployment:
    status, spec, meta = o.get("status", {}), o["spec"], o["metadata"]
    progressing: Json = next((c for c in status.get("conditions") or () if c["type"] == "Progressing"), {})
    exceeded = progressing.get("reason") == "ProgressDeadlineExceeded"
    return Deployment(
        name=meta["name"],
        generation=meta.get("generation", 0),
        observed_generation=status.get("observedGeneration", 0),
        replicas=spec.get("replicas", 1),
        updated=status.get("updatedReplicas", 0),
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
        total=status.get("replicas", 0),
        labels=_labels(meta),
        deadline_exceeded=progressing.get("message", "") if exceeded else "",
    )


def endpoint_pods(slices: Sequence[Json]) -> tuple[str, ...]:
    """Names of the pods behind a Service that get traffic now."""
    found = [
        e.get("targetRef", {}).get("name", "")
        for s in slices
        for e in s.get("endpoints") or ()
        if e.get("conditions", {}).get("ready", True)
    ]
    return tuple(sorted(n for n in found if n))


def _container(o: Json) -> Container:
    state, last = o.get("state", {}), o.get("lastState", {})
    waiting = state.get("waiting", {})
    end = state.get("terminated") or last.get("terminated") or {}
    return Container(
        name=o["name"],
        image_id=o.get("imageID", ""),
        ready=o.get("ready", False),
        restarts=o.get("restartCount", 0),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=end.get("exitCode"),
        exit_reason=end.get("reason", ""),
        exit_message=end.get("message", ""),
    )


def _labels(meta: Json) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((meta.get("labels") or {}).items()))
