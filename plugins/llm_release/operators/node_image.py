"""The tasks of DAG `node_image`: building a disk image, and deleting those that nothing names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_release.core.request import ImageRequest, image_request
from llm_release.operators.waiting import WaitingOperator
from llm_release.steps.world import Surroundings

if TYPE_CHECKING:
    from airflow.sdk import Context


class NodeImageOperator(WaitingOperator):
    """One part of the DAG; the task's id says which (`steps.image_request.PARTS`, or sweep)."""

    def act(self, at: Surroundings, context: Context) -> Any:
        from llm_release.steps import image_sweep
        from llm_release.steps.image_request import PARTS

        if self.task_id == image_sweep.Swept.STEP:
            return image_sweep.run(at, _request(context), self._clusters(at))
        return PARTS[self.task_id](at, _request(context))

    @staticmethod
    def _clusters(at: Surroundings) -> list[Surroundings]:
        """Every cluster of the same project, each asked by its own connection.

        Raises:
            Invalid: a cluster's file is wrong; it might have been one of them.
        """
        from llm_release.hooks.cluster import ClusterHook
        from llm_release.steps import manifests

        specs = [manifests.cluster(at.home, name) for name in manifests.clusters(at.home)]
        return [
            Surroundings(cluster=s, connect=ClusterHook(s), home=at.home, holder=at.holder, log=at.log)
            for s in specs
            if s.project == at.cluster.project
        ]

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
