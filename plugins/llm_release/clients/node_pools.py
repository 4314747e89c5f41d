"""GPU node pools of one GKE cluster with a secondary boot disk, and the operations that make and delete them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as google_errors
from google.api_core.client_options import ClientOptions
from google.cloud import container_v1

from llm_release.clients.operations import TIMEOUT_S, Operation, last, told
from llm_release.core.errors import Permanent, ReleaseError, Transient
from llm_release.core.gke import Cluster

SERVICE = "GKE"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""A pool made through the API has no scopes of its own accord, and its nodes could pull nothing."""
_BUSY = re.compile(r"incompatible operation|wait and try again|operation in progress", re.IGNORECASE)
_FULL = ("GCE_STOCKOUT", "GCE_QUOTA_EXCEEDED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A node pool as the API reports it."""

    name: str
    status: str
    """PROVISIONING, RUNNING, RUNNING_WITH_ERROR, RECONCILING, STOPPING or ERROR."""
    said: str
    """What GKE says about a pool that is not well."""
    labels: Mapping[str, str]
    """Resource labels, as Compute's."""
    disk_images: tuple[str, ...]
    """Its secondary boot disks that cache container images: projects/<project>/global/images/<name>."""
    data_images: tuple[str, ...]
    """Its other secondary boot disks."""
    max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolWish:
    """A pool that is wanted: no node until a pod wants one, and again none when no pod is left."""

    name: str
    zone: str
    machine: str
    disk_gib: int
    service_account: str
    """E-mail; empty for Compute's default one."""
    accelerator: str
    accelerators: int
    spot: bool
    disk_image: str
    max: int
    node_labels: Mapping[str, str]
    labels: Mapping[str, str]


class Busy(Transient):
    """The cluster carries out another change; `operation` is its name, empty when GKE did not say."""

    operation: str = ""


class NodePools:
    """Node pools of one cluster. Every method raises Permanent, Transient, Conflict or Unavailable."""

    def __init__(
        self, *, project: str, location: str, cluster: str, credentials: Any, endpoint: str | None = None
    ) -> None:
        # gRPC, the default transport, cannot speak to an http:// endpoint.
        options: dict[str, Any] = (
            {"client_options": ClientOptions(api_endpoint=endpoint), "transport": "rest"} if endpoint else {}
        )
        self._client = container_v1.ClusterManagerClient(credentials=credentials, **options)
        self._place = f"projects/{project}/locations/{location}"
        self._cluster = f"{self._place}/clusters/{cluster}"

    def cluster(self) -> Cluster:
        """The cluster itself, as far as nodes with a secondary boot disk depend on it."""
        with told(f"read cluster {last(self._cluster)}", service=SERVICE):
            found = self._client.get_cluster(name=self._cluster, timeout=TIMEOUT_S)
        return Cluster(
            version=found.current_master_version,
            autopilot=found.autopilot.enabled,
            auto_provisioning=found.autoscaling.enable_node_autoprovisioning,
            image_streaming=found.node_pool_defaults.node_config_defaults.gcfs_config.enabled,
        )

    def get(self, name: str) -> Pool | None:
        """None when there is no such pool."""
        with told(f"read node pool {name}", service=SERVICE):
            try:
                found = self._client.get_node_pool(name=self._path(name), timeout=TIMEOUT_S)
            except google_errors.NotFound:
                return None
        return _pool(found)

    def list(self) -> tuple[Pool, ...]:
        with told(f"list the node pools of {last(self._cluster)}", service=SERVICE):
            found = self._client.list_node_pools(parent=self._cluster, timeout=TIMEOUT_S)
        return tuple(_pool(p) for p in found.node_pools)

    def create(self, wish: PoolWish) -> Operation:
        """
        Raises:
            Busy: another change of the cluster is not over.
        """
        with _free(f"create node pool {wish.name}"):
            started = self._client.create_node_pool(
                parent=self._cluster, node_pool=_wanted(wish), timeout=TIMEOUT_S
            )
        return _operation(started)

    def delete(self, name: str) -> Operation | None:
        """Nodes are drained and deleted with it. None when it was not there.

        Raises:
            Busy: another change of the cluster is not over.
        """
        with _free(f"delete node pool {name}"):
            try:
                started = self._client.delete_node_pool(name=self._path(name), timeout=TIMEOUT_S)
            except google_errors.NotFound:
                return None
        return _operation(started)

    def operation(self, name: str) -> Operation:
        """Looks at a change once; it does not wait."""
        with told(f"read operation {name}", service=SERVICE):
            found = self._client.get_operation(name=f"{self._place}/operations/{name}", timeout=TIMEOUT_S)
        return _operation(found)

    def running(self, pool: str) -> Operation | None:
        """The change of a pool that is not over; None when there is none."""
        with told(f"list the operations on node pool {pool}", service=SERVICE):
            found = self._client.list_operations(parent=self._place, timeout=TIMEOUT_S)
        # With the project's number, and with zones/ for a zonal cluster: only the end is what we know it by.
        mine = f"/clusters/{last(self._cluster)}/nodePools/{pool}"
        open_ = [_operation(o) for o in found.operations if o.target_link.endswith(mine)]
        return next((o for o in open_ if not o.done), None)

    def _path(self, name: str) -> str:
        return f"{self._cluster}/nodePools/{name}"


@contextlib.contextmanager
def _free(what: str) -> Iterator[None]:
    try:
        with told(what, service=SERVICE):
            yield
    except ReleaseError as e:
        if not _BUSY.search(e.cause):
            raise
        found = re.search(r"operation-[\w-]+", e.cause)
        busy = Busy(e.cause, next_action="the task will try again.")
        busy.operation = found[0] if found else ""
        raise busy from e


def _wanted(wish: PoolWish) -> container_v1.NodePool:
    driver = container_v1.GPUDriverInstallationConfig(
        gpu_driver_version=container_v1.GPUDriverInstallationConfig.GPUDriverVersion.DEFAULT
    )
    accelerator = container_v1.AcceleratorConfig(
        accelerator_type=wish.accelerator,
        accelerator_count=wish.accelerators,
        gpu_driver_installation_config=driver,
    )
    disk = container_v1.SecondaryBootDisk(
        disk_image=wish.disk_image, mode=container_v1.SecondaryBootDisk.Mode.CONTAINER_IMAGE_CACHE
    )
    config = container_v1.NodeConfig(
        machine_type=wish.machine,
        disk_size_gb=wish.disk_gib,
        service_account=wish.service_account,
        oauth_scopes=[SCOPE],
        accelerators=[accelerator],
        spot=wish.spot,
        labels=dict(wish.node_labels),
        resource_labels=dict(wish.labels),
        # GKE reads layers from the disk only where image streaming is on (gke.md B1).
        gcfs_config=container_v1.GcfsConfig(enabled=True),
        secondary_boot_disks=[disk],
    )
    return container_v1.NodePool(
        name=wish.name,
        config=config,
        initial_node_count=0,
        locations=[wish.zone],
        autoscaling=container_v1.NodePoolAutoscaling(enabled=True, min_node_count=0, max_node_count=wish.max),
        management=container_v1.NodeManagement(auto_upgrade=True, auto_repair=True),
    )


def _pool(p: Any) -> Pool:
    cache = container_v1.SecondaryBootDisk.Mode.CONTAINER_IMAGE_CACHE
    disks = [(d.disk_image, d.mode == cache) for d in p.config.secondary_boot_disks]
    images = [(d[d.index("projects/") :] if "projects/" in d else d, caches) for d, caches in disks]
    return Pool(
        name=p.name,
        status=p.status.name,
        said="; ".join(c.message for c in p.conditions if c.message) or p.status_message,
        labels=dict(p.config.resource_labels),
        disk_images=tuple(d for d, caches in images if caches),
        data_images=tuple(d for d, caches in images if not caches),
        max=p.autoscaling.max_node_count,
    )


def _operation(o: Any) -> Operation:
    if o.status != container_v1.Operation.Status.DONE:
        return Operation(o.name, "", False)
    conditions = [*o.nodepool_conditions, *o.cluster_conditions]
    message = o.error.message or o.status_message or "; ".join(c.message for c in conditions)
    if not (o.error.code or message):
        return Operation(o.name, "", True)
    full = any(c.code.name in _FULL for c in conditions) or "quota" in message.lower()
    return Operation(o.name, "", True, _failed(message, full=full))


def _failed(message: str, *, full: bool) -> ReleaseError:
    return Permanent(
        f"GKE could not do it: {message.rstrip('.')}.",
        next_action="raise the quota or choose another zone or machine, then trigger again."
        if full
        else "correct what it names, then trigger again.",
    )
