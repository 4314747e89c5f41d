"""A step of a release as an Airflow task: gives it its world, and keeps what it left for the record."""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

from llm_release.core.errors import ReleaseError
from llm_release.core.request import release_request
from llm_release.core.strict import encode
from llm_release.operators.waiting import WaitingOperator
from llm_release.steps import manifests
from llm_release.steps.world import FAILURE, SPAN, World

if TYPE_CHECKING:
    from airflow.sdk import Context

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
    "roll_out.cold_start": "cold_start",
    "gate.smoke": "smoke",
    "gate.load": "load",
    "decide.verdict": "verdict",
    "promote.switch": "switch",
    "promote.drain": "drain",
    "promote.retire_nodes": "retire_nodes",
    "close.end_machines": "end_machines",
    "close.tidy": "tidy",
    "close.record": "record",
    "close.unlock": "unlock",
}
"""Task id -> module in `llm_release.steps`."""


class StepOperator(WaitingOperator):
    """One step of `release__<service>`.

    Args:
        step: full task id, a key of `STEPS`.
        service: name of the service's file.
    """

    def __init__(self, *, step: str, service: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.service = service

    def act(self, at: World, context: Context) -> Any:
        module = importlib.import_module(f"llm_release.steps.{STEPS[self.step]}")
        if self.step == "close.record":
            return module.run(at, steps=self._everything(context))
        return module.run(at)

    def surroundings(self, context: Context, *, resumed: bool) -> World:
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

    def failed(self, context: Context, e: ReleaseError, started: float) -> None:
        facts = getattr(e, "facts", None)
        if facts is not None:
            context["ti"].xcom_push(key="return_value", value=encode(facts))
        context["ti"].xcom_push(
            key=FAILURE,
            value={"cause": e.cause, "next": e.next_action, "refused": facts is not None, "step": self.step},
        )
        context["ti"].xcom_push(key=SPAN, value={"started": started, "ended": time.time()})


def _is_over(context: Context, holder: str) -> bool:
    """Whether another run has ended. A run that this Airflow does not know is never taken for dead."""
    dag_id, _, run_id = holder.partition("/")
    try:
        return context["ti"].get_dagrun_state(dag_id, run_id) in ("success", "failed")
    except Exception:  # the API answers 404 by an exception of its own; unknown means alive
        return False
