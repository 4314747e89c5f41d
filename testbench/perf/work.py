"""When the work of a release ran: its Jobs, its pods' starts and ends, Compute's operations.

What is left of the run's wall time is orchestration. Watches are read as they come, because a Job's own time
stamps have whole seconds only; all times are Unix seconds of this machine's clock.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubernetes import client, config, watch

from testbench import config as bench

Interval = tuple[float, float]
_LABEL = "app.kubernetes.io/managed-by=llm-release"


def length(intervals: Iterable[Interval]) -> float:
    """Seconds that at least one of the intervals covers.

    >>> length([(0, 4), (2, 5), (7, 8)])
    6
    """
    total, covered = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0, end - max(start, covered))
        covered = max(covered, end)
    return total


def within(intervals: Iterable[Interval], outer: Interval) -> list[Interval]:
    """The intervals cut to `outer`; what lies outside is dropped."""
    cut = ((max(a, outer[0]), min(b, outer[1])) for a, b in intervals)
    return [(a, b) for a, b in cut if a < b]


@dataclass(slots=True)
class Watched:
    """Starts and ends by name, as they were seen."""

    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)

    def intervals(self) -> dict[str, Interval]:
        return {name: (start, self.ended[name]) for name, start in self.began.items() if name in self.ended}


class Observer:
    """Watches Jobs, Deployments and pods of a namespace from `start` to `stop`."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._api = config.new_client_from_config(config_file=str(bench.KUBECONFIG))
        self._stop = threading.Event()
        self._seen = {kind: Watched() for kind in ("Job", "Deployment", "end of pods")}
        self._deleting: set[str] = set()
        batch, apps, core = (
            client.BatchV1Api(self._api),
            client.AppsV1Api(self._api),
            client.CoreV1Api(self._api),
        )
        followed = (
            (batch.list_namespaced_job, self._job),
            (apps.list_namespaced_deployment, self._deployment),
            (core.list_namespaced_pod, self._pod),
        )
        self._threads = [threading.Thread(target=self._follow, args=pair, daemon=True) for pair in followed]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        time.sleep(1.0)  # the first answers of the watches: what was there before the run

    def stop(self) -> dict[str, Interval]:
        """Returns: what was seen, by kind and name."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5)
        return {
            f"{kind} {name}": interval
            for kind, watched in self._seen.items()
            for name, interval in watched.intervals().items()
        }

    def _follow(self, listed: Any, note: Any) -> None:
        while not self._stop.is_set():
            stream = watch.Watch().stream(
                listed, self._namespace, label_selector=_LABEL, timeout_seconds=2, _request_timeout=10
            )
            for event in stream:
                note(event["type"], event["object"], time.time())

    def _job(self, _type: str, job: Any, now: float) -> None:
        seen = self._seen["Job"]
        seen.began.setdefault(job.metadata.name, now)
        over = any(
            c.type in ("Complete", "Failed") and c.status == "True" for c in job.status.conditions or ()
        )
        if over:
            seen.ended.setdefault(job.metadata.name, now)

    def _deployment(self, _type: str, deployment: Any, now: float) -> None:
        """From the wish for pods to all of them ready."""
        seen, name = self._seen["Deployment"], deployment.metadata.name
        wanted, ready = deployment.spec.replicas or 0, deployment.status.ready_replicas or 0
        if wanted and ready < wanted:
            seen.began.setdefault(name, now)
        elif wanted:
            seen.ended.setdefault(name, now)

    def _pod(self, kind: str, pod: Any, now: float) -> None:
        seen, name = self._seen["end of pods"], pod.metadata.name
        if pod.metadata.deletion_timestamp is not None:
            seen.began.setdefault(name, now)
        if kind == "DELETED":
            seen.ended.setdefault(name, now)


def operations() -> dict[str, Interval]:
    """Compute's own list of operations: from when each was asked for to its end."""
    url = f"{bench.GOOGLE}/compute/v1/projects/{bench.PROJECT}/zones/{bench.ZONE}/operations?maxResults=500"
    bearer = {"authorization": f"Bearer {bench.BEARER.read_text().strip()}"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=bearer), timeout=15) as answer:
        found: Sequence[Mapping[str, Any]] = json.load(answer).get("items") or ()
    return {
        f"operation {o['operationType']} {str(o.get('targetLink', '')).rpartition('/')[2]} {o['name']}": (
            _time(str(o["insertTime"])),
            _time(str(o["endTime"])),
        )
        for o in found
        if o.get("endTime")
    }


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
