"""A step of a release as an Airflow task: gives it its world, waits for what it waits for, maps its failures.

Short waits are looked at inline, because a deferral costs three ticks of the triggerer; longer ones are
deferred. After a wait the step runs again from its start: it observes first, so it goes on where it was.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from llm_release.core.errors import Permanent, ReleaseError, Transient
from llm_release.core.spec import release_request
from llm_release.core.strict import encode
from llm_release.operators.failures import raise_for_airflow
from llm_release.steps import manifests
from llm_release.steps.waiting import Look
from llm_release.steps.world import FAILURE, SPAN, Skipped, Wait, World

if TYPE_CHECKING:
    from airflow.sdk import Context

INLINE_S = 8.0
POLL_S = 0.3
WAITS_ALLOWED = 60
"""More waits than any step has reasons for: a step that goes in circles is stopped."""

STEPS = {
    "open.resolve": "resolve",
    "open.preflight": "preflight",
    "open.plan": "plan",
    "open.lock": "lock",
    "stage.access": "access",
    "stage.disk": "disk",
    "stage.hydrate": "hydrate",
    "stage.seal": "seal",
    "stage.publish": "publish",
    "stage.node_image": "node_image",
    "stage.verify_image": "verify_image",
    "stage.nodes": "nodes",
    "roll_out.deploy": "deploy",
    "roll_out.identify": "identify",
    "gate.smoke": "smoke",
    "gate.load": "load",
    "decide.verdict": "verdict",
    "promote.switch": "switch",
    "promote.drain": "drain",
    "promote.retire_nodes": "retire_nodes",
    "close.tidy": "tidy",
    "close.record": "record",
    "close.unlock": "unlock",
}
"""Task id -> module in `llm_release.steps`."""


class StepOperator(BaseOperator):
    """One step of `release__<service>`.

    Args:
        step: full task id, a key of `STEPS`.
        service: name of the service's file.
        inline: seconds to look inline before a wait is deferred.
    """

    ui_color = "#eef4fb"

    def __init__(self, *, step: str, service: str, inline: float = INLINE_S, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.service = service
        self.inline = inline

    def execute(self, context: Context) -> dict[str, Any]:
        return self._go(context, started=time.time(), waits=0)

    def resume(
        self, context: Context, event: Mapping[str, Any], started: float, waits: int
    ) -> dict[str, Any]:
        """Back from the triggerer. The step looks for itself; the event matters only if it still waits then."""
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
            world = self._world(context, resumed=waited is not None)
            found = self._run(world, context)
            if not isinstance(found, Wait):
                return found
            if waited is not None and waited["state"] != "done":
                raise _not_over(waited)
            if waits >= WAITS_ALLOWED:
                raise Transient(
                    f"{self.step} waits for {found.what} again and again.",
                    next_action="read its log from the start.",
                )
            waits += 1
            waited = self._wait(found, world, started=started, waits=waits)

    def _wait(self, wait: Wait, world: World, *, started: float, waits: int) -> Mapping[str, Any]:
        """Looks inline for a while; defers when that was not enough."""
        look = Look(wait, world.connect)
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
            trigger=WaitTrigger(cluster=world.cluster.cluster, wait=encode(wait), started=look.started),
            method_name="resume",
            kwargs={"started": started, "waits": waits},
            timeout=timedelta(seconds=wait.within + 120),
        )
        raise AssertionError("defer does not return")

    def _run(self, world: World, context: Context) -> Any:
        module = importlib.import_module(f"llm_release.steps.{STEPS[self.step]}")
        if self.step == "close.record":
            return module.run(world, steps=self._everything(context))
        return module.run(world)

    def _world(self, context: Context, *, resumed: bool) -> World:
        from llm_release.hooks import cluster

        home = cluster.home()
        spec = manifests.service(home, self.service)
        target = manifests.cluster(home, spec.cluster)
        conf = dict(context["dag_run"].conf or {})
        return World(
            spec=spec,
            cluster=target,
            connect=cluster.ClusterHook(target),
            home=home,
            holder=f"{context['dag'].dag_id}/{context['run_id']}",
            request=release_request(conf, frozenset(context["dag"].params)),
            facts=lambda step: self._pull(context, step, "return_value"),
            log=self.log.info,
            run_is_over=lambda holder: _is_over(context, holder),
            resumed=resumed,
        )

    @staticmethod
    def _pull(context: Context, step: str, key: str) -> Any:
        return context["ti"].xcom_pull(task_ids=step, key=key)

    def _everything(self, context: Context) -> dict[str, dict[str, Any]]:
        """What every step left, for the record."""
        left: dict[str, dict[str, Any]] = {}
        for step in STEPS:
            found = {
                k: self._pull(context, step, key)
                for k, key in (("facts", "return_value"), (FAILURE, FAILURE), (SPAN, SPAN))
            }
            found = {k: v for k, v in found.items() if v is not None}
            if found:
                left[step] = found
        return left

    def _fail(self, context: Context, e: ReleaseError, started: float) -> NoReturn:
        """Leaves the reason for the record, then fails for good or lets Airflow try again."""
        facts = getattr(e, "facts", None)
        if facts is not None:
            context["ti"].xcom_push(key="return_value", value=encode(facts))
        context["ti"].xcom_push(
            key=FAILURE,
            value={"cause": e.cause, "next": e.next_action, "refused": facts is not None, "step": self.step},
        )
        context["ti"].xcom_push(key=SPAN, value={"started": started, "ended": time.time()})
        raise_for_airflow(e)


def _not_over(waited: Mapping[str, Any]) -> ReleaseError:
    """A deadline passed is final (a person may clear the task); a cluster that could not be asked is not."""
    kind = Transient if waited["state"] == "lost" or waited.get("again") else Permanent
    return kind(waited["message"], next_action=waited["next_action"])


def _is_over(context: Context, holder: str) -> bool:
    """Whether another run has ended. A run that this Airflow does not know is never taken for dead."""
    dag_id, _, run_id = holder.partition("/")
    try:
        return context["ti"].get_dagrun_state(dag_id, run_id) in ("success", "failed")
    except Exception:  # the API answers 404 by an exception of its own; unknown means alive
        return False
