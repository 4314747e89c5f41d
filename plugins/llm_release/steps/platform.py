"""Prepares a cluster for releases: StorageClass, rights, and per namespace the service accounts. Repeatable.

It is run by someone who may create roles; the releases themselves then need only what these roles grant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_release.clients.kube_objects import Ref
from llm_release.clients.kubernetes import Kubernetes
from llm_release.core import bootdisk
from llm_release.core.clusterspec import ClusterSpec, NodeImages
from llm_release.core.errors import Permanent
from llm_release.steps import manifests

ACCOUNTS = ("llm-hydrator", "llm-server", "llm-gate")
WORKLOAD_IDENTITY = "iam.gke.io/gcp-service-account"


@dataclass(frozen=True, slots=True)
class Prepared:
    namespaces: tuple[str, ...]
    created: tuple[str, ...]
    changed: tuple[str, ...]
    kept: int


def run(home: Path, cluster: ClusterSpec, *, kube: Kubernetes, namespaces: Sequence[str]) -> Prepared:
    """Applies every object of the platform; what is right already is not written.

    Raises:
        Permanent: the StorageClass exists with other, immutable properties; or a right is missing.
    """
    _storage_class(kube, cluster)
    done = [kube.apply(body) for body in _objects(home, cluster, namespaces)]
    by = {kind: tuple(str(a.ref) for a in done if a.change == kind) for kind in ("create", "change", "keep")}
    return Prepared(tuple(namespaces), by["create"], by["change"], len(by["keep"]))


def _storage_class(kube: Kubernetes, cluster: ClusterSpec) -> None:
    found = kube.get(Ref("storage.k8s.io/v1", "StorageClass", cluster.storage_class))
    if found is not None and found.get("reclaimPolicy") != "Retain":
        raise Permanent(
            f"StorageClass {cluster.storage_class} has reclaimPolicy {found.get('reclaimPolicy')}, fixed for good.",
            next_action="delete that class (volumes keep working), or name another one in the cluster's file.",
        )


def _objects(home: Path, cluster: ClusterSpec, namespaces: Sequence[str]) -> Iterator[dict[str, Any]]:
    subjects = (
        [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": cluster.identity}]
        if cluster.identity
        else []
    )
    yield manifests.render(home, "storage-class", {"STORAGE_CLASS": cluster.storage_class})
    yield manifests.render(home, "release-cluster-role", {})
    yield manifests.render(home, "release-cluster-role-binding", {"SUBJECTS": subjects})
    if cluster.node_images is not None:
        yield from _for_nodes(home, cluster, cluster.node_images, subjects)
    for namespace in namespaces:
        values = {"NAMESPACE": namespace}
        yield manifests.render(home, "namespace", values)
        for account in ACCOUNTS:
            google = cluster.service_accounts.get(account)
            annotations = {WORKLOAD_IDENTITY: google} if google else {}
            yield manifests.render(
                home, "service-account", {**values, "ACCOUNT": account, "ANNOTATIONS": annotations}
            )
        yield manifests.render(home, "release-role", values)
        yield manifests.render(home, "release-role-binding", {**values, "SUBJECTS": subjects})


def _for_nodes(
    home: Path, cluster: ClusterSpec, images: NodeImages, subjects: list[dict[str, str]]
) -> Iterator[dict[str, Any]]:
    """What nodes with secondary boot disks need: an allow-list where GKE makes the pools, rights where we do."""
    if images.mode == "standard":
        yield manifests.render(home, "node-cluster-role", {})
        yield manifests.render(home, "node-cluster-role-binding", {"SUBJECTS": subjects})
        return
    pattern = f"projects/{cluster.project}/global/images/{bootdisk.PREFIX}.*"
    yield manifests.render(home, "allowlist", {"IMAGES": pattern})
