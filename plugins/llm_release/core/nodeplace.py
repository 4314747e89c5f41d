"""Which nodes have the engine's secondary boot disk, what pods select them by, and which of them may go.

Three ways to come by such nodes (`node_images.mode` of the cluster's file): Autopilot makes them for a node label;
a Standard cluster needs a node pool of ours; a ComputeClass names the disk and GKE makes the pools (gke.md, B2, B3).
A pool or class belongs to an engine image and a shape of machine, not to a service: two services may share it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llm_release.core import bootdisk
from llm_release.core import names as n
from llm_release.core.clusterspec import NodeImages
from llm_release.core.spec import Accelerator

ACCELERATOR = "cloud.google.com/gke-accelerator"
SPOT = "cloud.google.com/gke-spot"
POOL = "cloud.google.com/gke-nodepool"
CLASS = "cloud.google.com/compute-class"
COMPUTE_CLASS = ("cloud.google.com/v1", "ComputeClass")
"""API version and kind."""
MADE = {"standard": POOL, "compute-class": CLASS}
"""By mode: the node label that names what we make."""
IMAGE = "llm-release/image"
"""Label of our classes and of our pools' nodes: name of the disk image."""
RETIRING = "llm-release/retiring"
"""Annotation of a node that we cordoned because its pool goes."""
NODE_MANAGED_BY = "llm-release/managed-by"
"""A kubelet refuses to set labels of kubernetes.io that it does not know, `app.kubernetes.io/managed-by` among them."""
PREFIX = "llmr-"
NAME_LIMIT = 40
"""Of a node pool's name, in characters."""


def name(image: bootdisk.Names, settings: NodeImages, accelerator: Accelerator, zone: str) -> str:
    """Of the node pool or ComputeClass for this image and this shape of node; empty on Autopilot.

    All that cannot be changed in a pool is in its name, so other settings are another pool. A class has no zone:
    the volume's is taken.

    >>> digest = "sha256:" + "0123456789abcdef" * 4
    >>> settings = NodeImages(mode="compute-class", zone="us-central1-a", subnetwork="x")
    >>> found = name(bootdisk.Names(digest), settings, Accelerator(type="nvidia-l4"), "us-central1-a")
    >>> found[:18], len(found) <= NAME_LIMIT
    ('llmr-0123456789ab-', True)
    """
    if settings.mode == "autopilot":
        return ""
    shape: list[object] = [settings.mode, accelerator.type, accelerator.count, accelerator.spot]
    if settings.node_pool is not None:
        pool = settings.node_pool
        shape += [zone, pool.machine, pool.disk_gib, pool.service_account]
    short = hashlib.sha256(repr(shape).encode()).hexdigest()[:8]
    return f"{PREFIX}{image.digest.removeprefix('sha256:')[:12]}-{short}"


def selector(
    digest: str,
    settings: NodeImages | None,
    *,
    project: str,
    accelerator: Accelerator,
    zone: str,
    more: Mapping[str, str],
) -> dict[str, str]:
    """The nodeSelector of serving pods.

    A pool or class says all about its nodes; with a class GKE even refuses to combine hard selectors such as
    `gke-spot`. Tolerations are not needed: GKE's admission adds those for GPUs and for a class that is selected.

    Args:
        digest: of the engine's image, "sha256:<64 hex>".
        settings: None where nodes have no secondary boot disk.
        more: the cluster's own wishes for serving pods.
    """
    mode = settings.mode if settings else ""
    if settings is not None and mode in MADE:
        return {**more, MADE[mode]: name(bootdisk.Names(digest), settings, accelerator, zone)}
    chosen = {ACCELERATOR: accelerator.type, **more}
    if accelerator.spot:
        chosen[SPOT] = "true"
    return chosen | (bootdisk.Names(digest).node_selector(project) if settings else {})


def node_labels(image: bootdisk.Names) -> dict[str, str]:
    """Kubernetes labels of a pool's nodes."""
    return {NODE_MANAGED_BY: n.FIELD_MANAGER, IMAGE: image.image}


def class_labels(image: bootdisk.Names) -> dict[str, str]:
    """Of a ComputeClass."""
    return {n.MANAGED_BY: n.FIELD_MANAGER, IMAGE: image.image}


def resource(project: str, image: bootdisk.Names) -> str:
    """The disk image as GKE's API and allow-lists name it.

    >>> resource("demo", bootdisk.Names("sha256:" + "a" * 64))
    'projects/demo/global/images/llmr-engine-aaaaaaaaaaaaaaaaaaaa'
    """
    return f"projects/{project}/global/images/{image.image}"


def allowed(path: str, patterns: Iterable[str]) -> bool:
    """Whether an allow-list's pattern matches the whole of a disk image's path; a broken pattern matches nothing."""
    for pattern in patterns:
        try:
            if re.fullmatch(pattern, path):
                return True
        except re.error:
            continue
    return False


def selectors(pod: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
    """What a pod's spec asks of its node: the nodeSelector, and each value that its node affinity chooses.

    >>> term = {"matchExpressions": [{"key": CLASS, "operator": "In", "values": ["a"]}]}
    >>> required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    >>> list(selectors({"nodeSelector": {POOL: "b"}, "affinity": {"nodeAffinity": required}}))
    [{'cloud.google.com/gke-nodepool': 'b'}, {'cloud.google.com/compute-class': 'a'}]
    """
    yield pod.get("nodeSelector") or {}
    affinity = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    for term in (*(required.get("nodeSelectorTerms") or ()), *(p["preference"] for p in preferred)):
        for wish in term.get("matchExpressions") or ():
            if wish["operator"] == "In":
                yield from ({wish["key"]: value} for value in wish["values"])


def named(selectors: Iterable[Mapping[str, str]]) -> frozenset[str]:
    """Pools and classes that pods with these node selectors need."""
    return frozenset(s[key] for s in selectors for key in MADE.values() if key in s)


def unnamed(found: Iterable[str], still_named: Iterable[str]) -> tuple[str, ...]:
    """What may go: ours by name, and nothing needs it, not even a Deployment kept at zero pods to be restored."""
    kept = set(still_named)
    return tuple(sorted(f for f in found if f.startswith(PREFIX) and f not in kept))
