"""A task that looks, acts and waits, again and again until it is done; maps what fails to Airflow's words.

Short waits are looked at inline, because a deferral costs three ticks of the triggerer; longer ones are
deferred. After a wait the work begins again: it observes first, so it goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from llm_release.core.errors import Permanent, ReleaseError, Transient
from llm_release.core.strict import encode
from llm_release.operators.failures import raise_for_airflow
from llm_release.steps.waiting import Look
from llm_release.steps.world import SPAN, Skipped, Surroundings, Wait

if TYPE_CHECKING:
    from airflow.sdk import Context

INLINE_S = 8.0
POLL_S = 0.3
WAITS_ALLOWED = 60
"""More waits than any step has reasons for: a step that goes in circles is stopped."""


class WaitingOperator(BaseOperator):
    """What is to be done is a subclass's `surroundings` and `act`.

    Args:
        inline: seconds to look inline before a wait is deferred.
    """

    ui_color = "#eef4fb"

    def __init__(self, *, inline: float = INLINE_S, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inline = inline

    def surroundings(self, context: Context, *, resumed: bool) -> Surroundings:
        """
        Args:
            resumed: True after one of its own waits, within the same try.
        """
        raise NotImplementedError

    def act(self, at: Any, context: Context) -> Any:
        """-> a dataclass of facts, or a `Wait`; it is called again after that."""
        raise NotImplementedError

    def failed(self, context: Context, e: ReleaseError, started: float) -> None:
        """Leaves what others need to know of the failure."""

    def execute(self, context: Context) -> dict[str, Any]:
        return self._go(context, started=time.time(), waits=0)

    def resume(
        self, context: Context, event: Mapping[str, Any], started: float, waits: int
    ) -> dict[str, Any]:
        """Back from the triggerer. The work looks for itself; the event matters only if it still waits then."""
        return self._go(context, started=started, waits=waits, waited=event)

    def _go(
        self, context: Context, *, started: float, waits: int, waited: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            found = self._until_done(context, started=started, waits=waits, waited=waited)
        except Skipped as e:
            raise AirflowSkipException(str(e)) from None
        except ReleaseError as e:
            self._fail(context, e, started)
        facts: dict[str, Any] = encode(found)
        context["ti"].xcom_push(key=SPAN, value={"started": started, "ended": time.time()})
        return facts

    def _until_done(
        self, context: Context, *, started: float, waits: int, waited: Mapping[str, Any] | None
    ) -> Any:
        while True:
            if waited is not None and waited.get("final"):
                raise _not_over(waited)
            at = self.surroundings(context, resumed=waited is not None)
            at.began = started
            found = self.act(at, context)
            if not isinstance(found, Wait):
                return found
            if waited is not None and waited["state"] != "done":
                raise _not_over(waited)
            if waits >= WAITS_ALLOWED:
                raise Transient(
                    f"{self.task_id} waits for {found.what} again and again.",
                    next_action="read its log from the start.",
                )
            waits += 1
            waited = self._wait(found, at, started=started, waits=waits)

    def _wait(self, wait: Wait, at: Surroundings, *, started: float, waits: int) -> Mapping[str, Any]:
        """Looks inline for a while; defers when that was not enough."""
        look = Look(wait, at.connect)
        inline_until = time.monotonic() + self.inline
        while True:
            now = look.once()
            if news := look.news(now):
                self.log.info(news)
            if now.state != "waiting":
                return encode(now)  # type: ignore[no-any-return]
            if time.monotonic() > inline_until:
                break
            time.sleep(POLL_S)
        from llm_release.triggers.wait import WaitTrigger

        self.defer(
            trigger=WaitTrigger(cluster=at.cluster.cluster, wait=encode(wait), started=look.started),
            method_name="resume",
            kwargs={"started": started, "waits": waits},
            timeout=timedelta(seconds=wait.within + 120),
        )
        raise AssertionError("defer does not return")

    def _fail(self, context: Context, e: ReleaseError, started: float) -> NoReturn:
        self.failed(context, e, started)
        raise_for_airflow(e)


def _not_over(waited: Mapping[str, Any]) -> ReleaseError:
    """A deadline passed is final (a person may clear the task); a cluster that could not be asked is not."""
    kind = Transient if waited["state"] == "lost" or waited.get("again") else Permanent
    return kind(waited["message"], next_action=waited["next_action"])
