"""The platform step as an Airflow task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from llm_release.core.errors import ReleaseError
from llm_release.core.request import release_request
from llm_release.core.strict import encode
from llm_release.operators.failures import raise_for_airflow
from llm_release.steps import manifests

if TYPE_CHECKING:
    from airflow.sdk import Context


class PlatformOperator(BaseOperator):
    """Prepares one cluster for all services that name it.

    Args:
        cluster: name of the cluster's file.
    """

    def __init__(self, *, cluster: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cluster = cluster

    def execute(self, context: Context) -> dict[str, Any]:
        try:
            return self._prepare(context)
        except ReleaseError as e:
            raise_for_airflow(e)

    def _prepare(self, context: Context) -> dict[str, Any]:
        from llm_release.hooks import cluster as hooks
        from llm_release.steps import platform

        release_request(dict(context["dag_run"].conf or {}), frozenset(context["dag"].params))
        home = hooks.home()
        cluster = manifests.cluster(home, self.cluster)
        namespaces = sorted({s.namespace for s in manifests.services_on(home, self.cluster)})
        done = platform.run(
            home, cluster, kube=hooks.ClusterHook(cluster).kubernetes(), namespaces=namespaces
        )
        for what in done.created:
            self.log.info("created %s", what)
        for what in done.changed:
            self.log.info("changed %s", what)
        self.log.info("kept %d objects as they were", done.kept)
        facts: dict[str, Any] = encode(done)
        return facts
