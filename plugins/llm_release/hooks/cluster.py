"""From a cluster's file and Airflow connections to connected clients. The only place that knows credentials.

Endpoints can be overridden in the connection's extra (`container_api_endpoint`, `compute_api_endpoint`,
`storage_api_endpoint`, `logging_api_endpoint`), as a private service connect or an emulator needs; there is no
other difference.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_release.core.clusterspec import ClusterSpec
from llm_release.core.errors import Permanent, Unavailable

if TYPE_CHECKING:
    from llm_release.clients.compute import Disks
    from llm_release.clients.hub import Hub
    from llm_release.clients.kubernetes import Kubernetes
    from llm_release.clients.machines import Machines
    from llm_release.clients.node_logs import NodeLogs
    from llm_release.clients.node_pools import NodePools
    from llm_release.clients.registry import Registry
    from llm_release.clients.store import Store


def home() -> Path:
    """The folder that holds include/: LLM_RELEASE_HOME, else the project this package lies in."""
    chosen = os.environ.get("LLM_RELEASE_HOME")
    return Path(chosen) if chosen else Path(__file__).resolve().parents[3]


class ClusterHook:
    """Makes the clients of one cluster; implements `steps.world.Connect`."""

    def __init__(self, cluster: ClusterSpec) -> None:
        self.cluster = cluster

    def kubernetes(self) -> Kubernetes:
        from llm_release.clients.kubernetes import Kubernetes

        api, address = self._kubeconfig_api() if self.cluster.kubernetes_connection else self._gke_api()
        digest = hashlib.sha256(address.encode()).hexdigest()[:12]
        # The client's default cache file is shared by host name between everything on the machine.
        return Kubernetes(
            api, discovery_cache=f"{tempfile.gettempdir()}/llm-release-discovery-{os.getuid()}-{digest}.json"
        )

    def disks(self) -> Disks:
        from llm_release.clients.compute import Disks

        endpoint = self._endpoint("compute")
        return Disks(
            project=self.cluster.project, credentials=self._gapic_credentials(endpoint), endpoint=endpoint
        )

    def machines(self) -> Machines:
        from llm_release.clients.machines import Machines

        endpoint = self._endpoint("compute")
        return Machines(
            project=self.cluster.project, credentials=self._gapic_credentials(endpoint), endpoint=endpoint
        )

    def node_logs(self) -> NodeLogs:
        from llm_release.clients.node_logs import NodeLogs

        endpoint = self._endpoint("logging")
        return NodeLogs(
            project=self.cluster.project, credentials=self._gapic_credentials(endpoint), endpoint=endpoint
        )

    def node_pools(self) -> NodePools:
        from llm_release.clients.node_pools import NodePools

        endpoint, spec = self._endpoint("container"), self.cluster
        return NodePools(
            project=spec.project,
            location=spec.location,
            cluster=spec.gke_cluster,
            credentials=self._gapic_credentials(endpoint),
            endpoint=endpoint,
        )

    def hub(self) -> Hub:
        """Anonymous: a worker never holds the token (metadata of gated repositories is public)."""
        from llm_release.clients.hub import Hub

        return Hub(self.cluster.hub.endpoint)

    def registry(self) -> Registry:
        from llm_release.clients.registry import Registry

        insecure = self.cluster.insecure_registries
        return Registry(insecure=insecure, google_token=self._token)

    def store(self) -> Store:
        from llm_release.clients import store

        spec, endpoint = self.cluster.store, self._endpoint("storage")
        # The cluster's file may name an emulator; no credentials of the connection go there.
        credentials = None if spec.endpoint and not endpoint else self._gapic_credentials(endpoint)
        client = store.connect(
            endpoint or spec.endpoint, credentials=credentials, project=self.cluster.project
        )
        return store.Store(spec.bucket, spec.prefix, client)

    # -------------------------------------------------------------------------------------------

    @cached_property
    def _google(self) -> Any:
        from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

        return GoogleBaseHook(gcp_conn_id=self.cluster.connection)

    def _endpoint(self, service: str) -> str | None:
        return self._google.extras.get(f"{service}_api_endpoint") or None

    @cached_property
    def _credentials(self) -> Any:
        return self._google.get_credentials()

    def _token(self) -> str:
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            if not self._credentials.valid:
                self._credentials.refresh(Request())
        except (GoogleAuthError, OSError) as e:
            raise Unavailable(
                f"connection {self.cluster.connection} gets no token: {e}.",
                next_action="check its key or its Workload Identity.",
            ) from e
        return str(self._credentials.token)

    def _gapic_credentials(self, endpoint: str | None) -> Any:
        """The connection's own credentials, or, for an overridden endpoint, nothing but their token.

        google-auth sends a service account's bearer to Google's iamcredentials from a background thread
        whatever endpoint was given (2.62: auth/credentials.py); credentials that are only a token have no
        such look-up, so that an emulator's caller never talks to Google.
        """
        if endpoint is None:
            return self._credentials
        from google.oauth2.credentials import Credentials

        return Credentials(self._token())

    def _gke_api(self) -> tuple[Any, str]:
        from airflow.providers.google.cloud.hooks.kubernetes_engine import GKEKubernetesHook

        url, ca = self._get_cluster()
        hook = GKEKubernetesHook(
            cluster_url=url,
            ssl_ca_cert=ca,
            use_dns_endpoint=self.cluster.dns_endpoint,
            gcp_conn_id=self.cluster.connection,
        )
        return hook.get_conn(), url

    def _get_cluster(self) -> tuple[str, str]:
        """-> (URL of the API server, its CA in base64)."""
        from google.api_core import exceptions
        from google.api_core.client_options import ClientOptions
        from google.cloud.container_v1 import ClusterManagerClient

        endpoint, spec = self._endpoint("container"), self.cluster
        # gRPC, the default transport, cannot speak to an http:// endpoint.
        options: dict[str, Any] = (
            {"client_options": ClientOptions(api_endpoint=endpoint), "transport": "rest"} if endpoint else {}
        )
        client = ClusterManagerClient(credentials=self._gapic_credentials(endpoint), **options)
        name = f"projects/{spec.project}/locations/{spec.location}/clusters/{spec.gke_cluster}"
        try:
            found = client.get_cluster(name=name, timeout=20)
        except exceptions.NotFound:
            raise Permanent(
                f"there is no GKE cluster {spec.gke_cluster} in {spec.location} of project {spec.project}.",
                next_action=f"correct include/clusters/{spec.cluster}.yaml.",
            ) from None
        except exceptions.Forbidden as e:
            raise Permanent(
                f"not allowed to read {name}: {e.message}.", next_action="grant container.clusters.get."
            ) from e
        except exceptions.GoogleAPICallError as e:
            raise Unavailable(
                f"GKE did not tell where {name} is: {e.message}.", next_action="the task will try again."
            ) from e
        if spec.dns_endpoint:
            return f"https://{found.control_plane_endpoints_config.dns_endpoint_config.endpoint}", ""
        return f"https://{found.endpoint}", found.master_auth.cluster_ca_certificate

    def _kubeconfig_api(self) -> tuple[Any, str]:
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

        api = KubernetesHook(conn_id=self.cluster.kubernetes_connection).get_conn()
        return api, str(api.configuration.host)
