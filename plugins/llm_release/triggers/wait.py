"""The long wait of a step: looks at one thing in the cluster or in Compute until it is over.

Serializable arguments and a loop, nothing else; what is looked at, and what it means, is in steps.waiting.
The clients are synchronous and run on a thread (Compute has no asynchronous client at all).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from llm_release.core.errors import Permanent, ReleaseError
from llm_release.core.readiness import Readiness
from llm_release.core.strict import decode, encode
from llm_release.steps.waiting import Look
from llm_release.steps.world import Wait

POLL_S = 1.0
SLOW_POLL_S = 5.0
SLOW_AFTER_S = 120.0
ERRORS_ALLOWED_S = 300.0
"""How long the API server may be away before the wait is given up (the task then tries again)."""


class WaitTrigger(BaseTrigger):
    """Ends with an event, an encoded `Readiness` or one of state "lost"; the step then looks for itself.

    Args:
        cluster: name of the cluster's file.
        wait: a `Wait`, encoded.
        started: Unix seconds of the first look, kept over a restart of the triggerer.
    """

    def __init__(self, *, cluster: str, wait: dict[str, Any], started: float) -> None:
        super().__init__()
        self.cluster = cluster
        self.wait = wait
        self.started = started

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "llm_release.triggers.wait.WaitTrigger",
            {"cluster": self.cluster, "wait": self.wait, "started": self.started},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        look = await _threaded(self._look)
        failing_since: float | None = None
        while True:
            news = ""
            try:
                found = await _threaded(look.once)
                news = await _threaded(look.news, found)
                failing_since = None
            except ReleaseError as e:
                failing_since = failing_since or time.time()
                if isinstance(e, Permanent) or time.time() - failing_since > ERRORS_ALLOWED_S:
                    yield TriggerEvent({"state": "lost", "message": e.cause, "next_action": e.next_action})
                    return
                self.log.warning("looking again: %s", e)
                found = Readiness("waiting", e.cause)
            if news:
                self.log.info(news)
            if found.state != "waiting":
                yield _event(found)
                return
            await asyncio.sleep(SLOW_POLL_S if time.time() - self.started > SLOW_AFTER_S else POLL_S)

    async def on_kill(self) -> None:
        """A person ended the task: its Job must not go on alone."""
        wait = decode(Wait, self.wait)
        if wait.kind == "job":
            await _threaded(self._delete_job, wait)

    def _look(self) -> Look:
        return Look(decode(Wait, self.wait), self._connect(), started=self.started)

    def _connect(self) -> Any:
        from llm_release.hooks import cluster
        from llm_release.steps import manifests

        return cluster.ClusterHook(manifests.cluster(cluster.home(), self.cluster))

    def _delete_job(self, wait: Wait) -> None:
        from llm_release.clients.kube_objects import Ref

        self._connect().kubernetes().delete(Ref("batch/v1", "Job", wait.name, wait.namespace))
        self.log.info("deleted Job %s/%s: its task was ended", wait.namespace, wait.name)


def _event(found: Readiness) -> TriggerEvent:
    return TriggerEvent(encode(found))


async def _threaded(call: Any, *args: Any) -> Any:
    # Not asyncio.to_thread: an Airflow connection is read over the triggerer's event loop, and only asgiref's
    # threads know the way back to it.
    return await sync_to_async(call, thread_sensitive=False)(*args)
