"""Makes a node with a secondary boot disk when a pod wants one, and takes it away again when nothing is on it.

A pod asks in one of three ways, as on GKE: by the disk image's own label (Autopilot), by a ComputeClass that names the
image, or by a node pool that has it. The image must exist, and where GKE would make the node pool (the first two) a
GCPResourceAllowlist must allow it; otherwise the pod stays Pending and nobody says why.
`python -m testbench.cluster.provisioner`
"""

from __future__ import annotations

import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from testbench import config
from testbench.bench import PROCESSES
from testbench.build import go
from testbench.cluster import crds, google, kube, nodes
from testbench.cluster.node import BOOT_DISK_LABEL, Node

TICK_S = 1.0
IDLE_S = 60.0
"""A node on which nothing ran for so long goes."""
MOST = 4
"""Nodes of one bench: each costs 300 MB."""
ALLOWLISTS = "/apis/node.gke.io/v1/gcpresourceallowlists"
CLASSES = "/apis/cloud.google.com/v1/computeclasses"
POOL = "cloud.google.com/gke-nodepool"
CLASS = "cloud.google.com/compute-class"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A node that a pod waits for. One of each kind is enough here: it has room for all pods of a test."""

    image: str
    """Name of the disk image of its secondary boot disk."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Beside the one of the image."""
    needs_allowlist: bool = True


def install() -> None:
    """The kinds that GKE has and Kubernetes does not."""
    crds.install()


def allowed(image: str, allowlists: list[dict[str, Any]]) -> bool:
    """Whether a pattern of any allow-list matches the whole of the image's path."""
    path = f"projects/{config.PROJECT}/global/images/{image}"
    patterns = [p for a in allowlists for p in a.get("spec", {}).get("allowedResourcePatterns", [])]
    return any(re.fullmatch(p, path) for p in patterns)


def wanted(pods: list[dict[str, Any]]) -> Iterator[tuple[Wish, dict[str, Any]]]:
    """(what it waits for, pod) of every pod without a node that selects one with a boot disk."""
    for pod in pods:
        selector: Mapping[str, str] = pod["spec"].get("nodeSelector") or {}
        if POOL in selector:
            wish = of_pool(google.node_pool(selector[POOL]))
        elif CLASS in selector:
            wish = of_class(kube.call("GET", f"{CLASSES}/{selector[CLASS]}"))
        else:
            wish = _of_label(selector)
        if wish is not None:
            yield wish, pod


def of_pool(pool: dict[str, Any]) -> Wish | None:
    """The node that a pool would grow by; None when it may not, or has no disk. A pool that is not there is {}."""
    settings, scaling = pool.get("config", {}), pool.get("autoscaling", {})
    disks = [d["diskImage"].rpartition("/")[2] for d in settings.get("secondaryBootDisks", [])]
    if pool.get("status") != "RUNNING" or not disks or scaling.get("maxNodeCount", 0) < 1:
        return None
    labels = {**settings.get("labels", {}), POOL: pool["name"]}
    return Wish(image=disks[0], labels=labels, needs_allowlist=False)


def of_class(body: dict[str, Any] | None) -> Wish | None:
    """The node that a class's first priority describes; without its taint, which GKE's admission lets pods tolerate."""
    spec = (body or {}).get("spec", {})
    if body is None or not spec.get("nodePoolAutoCreation", {}).get("enabled"):
        return None
    disks = [d for p in spec["priorities"][:1] for d in p.get("storage", {}).get("secondaryBootDisks", [])]
    if not disks or disks[0].get("project") != config.PROJECT:
        return None
    return Wish(image=disks[0]["diskImageName"], labels={CLASS: body["metadata"]["name"]})


def _of_label(selector: Mapping[str, str]) -> Wish | None:
    for key, value in selector.items():
        if key.startswith(BOOT_DISK_LABEL) and value == f"CONTAINER_IMAGE_CACHE.{config.PROJECT}":
            return Wish(image=key.removeprefix(BOOT_DISK_LABEL))
    return None


def main() -> int:
    idle: dict[int, float] = {}
    while True:
        try:
            _grow()
            _shrink(idle)
        except (RuntimeError, OSError):  # the API server starts, or goes: it is asked again
            traceback.print_exc()
        time.sleep(TICK_S)


def _grow() -> None:
    pending = kube.call("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3D,status.phase%3DPending") or {}
    for wish, pod in wanted(pending.get("items", [])):
        have = {index: labels_of(index) for index in nodes.indexes()}
        if any(_fits(wish, labels) for labels in have.values()) or len(have) >= MOST:
            continue
        lists = (kube.call("GET", ALLOWLISTS) or {}).get("items", [])
        if (wish.needs_allowlist and not allowed(wish.image, lists)) or not google.image_ready(wish.image):
            continue
        node = Node(next(n for n in range(2, MOST + 2) if n not in have), wish.image, wish.labels)
        _tell(pod, f"pod triggered scale-up: a node with disk image {wish.image}")
        print(f"making node={node.name} image={wish.image} for pod={pod['metadata']['name']}", flush=True)
        node.start(PROCESSES, go.programs())


def _fits(wish: Wish, labels: Mapping[str, str]) -> bool:
    return BOOT_DISK_LABEL + wish.image in labels and wish.labels.items() <= labels.items()


def _shrink(idle: dict[int, float]) -> None:
    """
    Args:
        idle: by node, since when nothing is on it; kept from look to look.
    """
    for index in nodes.indexes():
        labels = labels_of(index)
        if not any(key.startswith(BOOT_DISK_LABEL) for key in labels):
            continue
        gone = POOL in labels and not google.node_pool(labels[POOL])
        if nodes.pods(Node(index)) and not gone:
            idle.pop(index, None)
        elif gone or time.monotonic() - idle.setdefault(index, time.monotonic()) > IDLE_S:
            why = "its pool is gone" if gone else f"nothing was on it for {IDLE_S:.0f} s"
            print(f"removing node={Node(index).name}: {why}", flush=True)
            nodes.remove(index, PROCESSES)
            idle.pop(index, None)


def labels_of(index: int) -> dict[str, str]:
    """Of a node; empty while it has not registered."""
    found = kube.call("GET", f"/api/v1/nodes/{Node(index).name}") or {}
    return dict(found.get("metadata", {}).get("labels", {}))


def _tell(pod: dict[str, Any], message: str) -> None:
    meta, now = pod["metadata"], time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{meta['name']}.", "namespace": meta["namespace"]},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
        },
        "reason": "TriggeredScaleUp",
        "message": message,
        "type": "Normal",
        "source": {"component": "cluster-autoscaler"},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    kube.call("POST", f"/api/v1/namespaces/{meta['namespace']}/events", body)


if __name__ == "__main__":
    sys.exit(main())
