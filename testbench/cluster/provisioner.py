"""Makes a node with a secondary boot disk when a pod wants one, and takes it away again when nothing is on it.

As on GKE Autopilot: the pod names the disk image in its node selector, the image must exist, and a
GCPResourceAllowlist must allow it; otherwise the pod stays Pending and nobody says why.
`python -m testbench.cluster.provisioner`
"""

from __future__ import annotations

import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from testbench import config
from testbench.bench import PROCESSES
from testbench.build import go
from testbench.cluster import google, kube, nodes
from testbench.cluster.node import BOOT_DISK_LABEL, Node

TICK_S = 1.0
IDLE_S = 60.0
"""A node on which nothing ran for so long goes."""
MOST = 4
"""Nodes of one bench: each costs 300 MB."""
ALLOWLISTS = "/apis/node.gke.io/v1/gcpresourceallowlists"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def install() -> None:
    """The allow-list's kind, as GKE has it: cluster scoped, a list of patterns."""
    patterns = {"type": "array", "items": {"type": "string"}}
    spec = {"type": "object", "properties": {"allowedResourcePatterns": patterns}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    }
    names = {
        "kind": "GCPResourceAllowlist",
        "listKind": "GCPResourceAllowlistList",
        "plural": "gcpresourceallowlists",
        "singular": "gcpresourceallowlist",
    }
    name = "gcpresourceallowlists.node.gke.io"
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {"group": "node.gke.io", "scope": "Cluster", "names": names, "versions": [version]},
    }
    kube.apply(f"{_CRDS}/{name}", body)


def allowed(image: str, allowlists: list[dict[str, Any]]) -> bool:
    """Whether a pattern of any allow-list matches the whole of the image's path."""
    path = f"projects/{config.PROJECT}/global/images/{image}"
    patterns = [p for a in allowlists for p in a.get("spec", {}).get("allowedResourcePatterns", [])]
    return any(re.fullmatch(p, path) for p in patterns)


def wanted(pods: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(image, pod) of every pod without a node that selects one by its boot disk."""
    for pod in pods:
        selector: Mapping[str, str] = pod["spec"].get("nodeSelector") or {}
        for key, value in selector.items():
            if key.startswith(BOOT_DISK_LABEL) and value == f"CONTAINER_IMAGE_CACHE.{config.PROJECT}":
                yield key.removeprefix(BOOT_DISK_LABEL), pod


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
    for image, pod in wanted(pending.get("items", [])):
        lists = (kube.call("GET", ALLOWLISTS) or {}).get("items", [])
        have = {index: image_of(index) for index in nodes.indexes()}
        if image in have.values() or len(have) >= MOST:
            continue
        if not allowed(image, lists) or not google.image_ready(image):
            continue
        index = next(n for n in range(2, MOST + 2) if n not in have)
        _tell(pod, f"pod triggered scale-up: a node with disk image {image}")
        print(f"making node={Node(index).name} image={image} for pod={pod['metadata']['name']}", flush=True)
        Node(index, image).start(PROCESSES, go.programs())


def _shrink(idle: dict[int, float]) -> None:
    """
    Args:
        idle: by node, since when nothing is on it; kept from look to look.
    """
    for index in nodes.indexes():
        if not image_of(index):
            continue
        if nodes.pods(Node(index)):
            idle.pop(index, None)
        elif time.monotonic() - idle.setdefault(index, time.monotonic()) > IDLE_S:
            print(f"removing node={Node(index).name}: nothing was on it for {IDLE_S:.0f} s", flush=True)
            nodes.remove(index, PROCESSES)
            idle.pop(index)


def image_of(index: int) -> str:
    """The disk image that a node was made with, empty for a node without one."""
    labels = (
        (kube.call("GET", f"/api/v1/nodes/{Node(index).name}") or {}).get("metadata", {}).get("labels", {})
    )
    found = [key.removeprefix(BOOT_DISK_LABEL) for key in labels if key.startswith(BOOT_DISK_LABEL)]
    return found[0] if found else ""


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
