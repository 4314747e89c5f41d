"""Nodes as somebody sees them who wants to take them away: what is on them, and whether pods may still come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_release.clients.kube_objects import Objects, Ref
from llm_release.core.nodeplace import RETIRING

Json = Mapping[str, Any]
_MIRROR = "kubernetes.io/config.mirror"
"""Annotation of a pod that the kubelet runs from a file."""


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    retiring: bool
    """We cordoned it."""


def nodes(kube: Objects, selector: str) -> tuple[Node, ...]:
    """Those that a label selector chooses."""
    return tuple(node(o) for o in kube.list("v1", "Node", "", selector))


def cordon(kube: Objects, name: str, *, retiring: bool) -> None:
    """Lets no new pod onto the node, or (with False) lets them come again. A node that is gone is no error."""
    note = {RETIRING: "true" if retiring else "false"}
    patch = {"metadata": {"annotations": note}, "spec": {"unschedulable": retiring}}
    kube.merge(Ref("v1", "Node", name), patch)


def movable_pods(kube: Objects, name: str) -> tuple[str, ...]:
    """namespace/name of the pods on a node that would have to run elsewhere without it."""
    found = kube.list("v1", "Pod", "", fields=f"spec.nodeName={name}")
    return tuple(f"{o['metadata']['namespace']}/{o['metadata']['name']}" for o in found if movable(o))


def node(o: Json) -> Node:
    meta = o["metadata"]
    return Node(meta["name"], (meta.get("annotations") or {}).get(RETIRING) == "true")


def movable(o: Json) -> bool:
    """Neither over, nor a DaemonSet's, nor the node's own."""
    meta = o["metadata"]
    over = o.get("status", {}).get("phase") in ("Succeeded", "Failed")
    by_daemon = any(owner["kind"] == "DaemonSet" for owner in meta.get("ownerReferences") or ())
    return not over and not by_daemon and _MIRROR not in (meta.get("annotations") or {})
