"""The tasks of DAG `node_image`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_release.core.request import ImageRequest, image_request
from llm_release.operators.waiting import WaitingOperator
from llm_release.steps.world import Surroundings

if TYPE_CHECKING:
    from airflow.sdk import Context


class NodeImageOperator(WaitingOperator):
    """One part of building a disk image; the task's id says which (`steps.image_request.PARTS`)."""

    def act(self, at: Surroundings, context: Context) -> Any:
        from llm_release.steps.image_request import PARTS

        return PARTS[self.task_id](at, _request(context))

    def surroundings(self, context: Context, *, resumed: bool) -> Surroundings:
        from llm_release.hooks import cluster
        from llm_release.steps import manifests

        _request(context)  # a mistyped key is told before anything else is looked at
        home, ti = cluster.home(), context["ti"]
        target = manifests.cluster(home, context["params"]["cluster"])
        return Surroundings(
            cluster=target,
            connect=cluster.ClusterHook(target),
            home=home,
            holder=f"{context['dag'].dag_id}/{context['run_id']}",
            # the parts are named as the same steps of a release are, without their group
            facts=lambda step: ti.xcom_pull(task_ids=step.rpartition(".")[2], key="return_value"),
            log=self.log.info,
        )


def _request(context: Context) -> ImageRequest:
    return image_request(dict(context["dag_run"].conf or {}), frozenset(context["dag"].params))
