"""The cluster spec: where releases run, what its pods and nodes are made of, validated.

Nothing here knows what exists. Durations are seconds, sizes are GiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llm_release.core.rules import SUBNETWORK, ZONE, Rule, check_rules, decoded, name_rule
from llm_release.core.strict import Seconds

HUB_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    endpoint: str = HUB_ENDPOINT
    token_secret: str = "hf-token"
    """Secret in the service's namespace with the key `token`; read by the hydration Job alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSpec:
    bucket: str
    prefix: str = "releases"
    endpoint: str | None = None
    """Only for an emulator: the address as pods and workers reach it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a kind of pod runs, beside the zone of its volume."""

    node_selector: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePool:
    """GPU node pools that are made in a Standard cluster, one for each engine image and shape."""

    machine: str
    """Machine type whose GPUs are one replica's `accelerator`, such as g2-standard-24 for two L4."""
    max: int
    """Nodes of one pool at most; two releases run side by side, mostly in a pool of their own each."""
    disk_gib: int = 100
    """Boot disk of a node."""
    service_account: str = ""
    """Of the nodes; empty: Compute's default one. It must be able to read images from Artifact Registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeImages:
    """How secondary boot disks are built, and how nodes of this cluster come by them."""

    mode: Literal["autopilot", "standard", "compute-class"]
    zone: str
    """Where images are built and verified."""
    subnetwork: str
    """Of the machine: regions/<region>/subnetworks/<name>. It needs Private Google Access, and Cloud NAT for apt."""
    machine: str = "n2-standard-8"
    boot_image: str = "projects/debian-cloud/global/images/family/debian-12"
    """Of the machine; Debian 12 or what is made from it. containerd and jq are installed where they are missing."""
    service_account: str = ""
    """Of the machine, to read images from Artifact Registry; empty: images are pulled anonymously."""
    location: str = ""
    """Region or multi-region that the image is stored in; empty: the one nearest to the zone."""
    build_within: Seconds = Seconds(3600)
    """After that Compute itself deletes the machine."""
    node_pool: NodePool | None = None
    """In mode standard, and only there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """One GKE cluster: include/clusters/<cluster>.yaml."""

    cluster: str
    connection: str
    """Airflow connection of type `google_cloud_platform`."""
    project: str
    location: str
    """Region of the GKE cluster, or zone of a zonal one."""
    gke_cluster: str
    store: StoreSpec
    toolbox: str
    """Image of the in-cluster jobs."""
    hub: Hub = Hub()
    hydration: Placement = Placement()
    serving: Placement = Placement()
    gates: Placement = Placement()
    node_images: NodeImages | None = None
    """Secondary boot disks with the engine's image; none: nodes pull it."""
    storage_class: str = "llm-release-hyperdisk-ml"
    insecure_registries: tuple[str, ...] = ()
    """Registries (host:port) that speak plain HTTP."""
    dns_endpoint: bool = False
    """Reach the API server by the cluster's DNS endpoint (private clusters)."""
    kubernetes_connection: str | None = None
    """Airflow connection of type `kubernetes` (a kubeconfig) to use instead of asking GKE for the cluster."""
    identity: str | None = None
    """Who the connection is in the cluster, to be granted what releases need: on GKE the service account's address."""
    service_accounts: Mapping[str, str] = field(default_factory=dict)
    """Google service account for llm-hydrator, llm-server, llm-gate (Workload Identity); empty: none."""


def cluster_spec(document: Any, *, source: str) -> ClusterSpec:
    """Decodes and checks a cluster document (parsed YAML). Raises Invalid as `spec.service_spec` does."""
    spec = decoded(ClusterSpec, document, source)
    check_rules([name_rule("cluster", spec.cluster)], source)
    if spec.node_images is not None:
        check_rules(_node_rules(spec.node_images), source)
    return spec


def _node_rules(images: NodeImages) -> list[Rule]:
    pool, standard, path = images.node_pool, images.mode == "standard", "node_images.node_pool"
    return [
        ("node_images.zone", bool(ZONE.fullmatch(images.zone)), f"{images.zone!r} is no zone"),
        (
            "node_images.subnetwork",
            bool(SUBNETWORK.fullmatch(images.subnetwork)),
            f"{images.subnetwork!r} is no regions/<region>/subnetworks/<name>",
        ),
        ("node_images.build_within", 60 <= images.build_within <= 86400, "must be 60s to 24h"),
        (path, pool is not None or not standard, "is needed in mode standard: {machine: ..., max: ...}"),
        (
            path,
            pool is None or standard,
            f"is for mode standard; in mode {images.mode} GKE chooses the nodes",
        ),
        (f"{path}.machine", pool is None or bool(pool.machine), "must name a machine type"),
        (f"{path}.max", pool is None or pool.max >= 1, "must be 1 or more"),
        (f"{path}.disk_gib", pool is None or pool.disk_gib >= 30, "must be 30 GiB or more"),
    ]
