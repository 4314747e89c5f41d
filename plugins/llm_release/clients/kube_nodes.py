"""Nodes as somebody sees them who wants to take them away: what is on them, and whether pods may still come.

And what asks for nodes; and the labels of one node, for who wants to know what it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes.client import ApiException

from llm_release.clients.kube_objects import Objects, Ref
from llm_release.core.errors import Permanent
from llm_release.core.nodeplace import RETIRING

Json = Mapping[str, Any]
_MIRROR = "kubernetes.io/config.mirror"
"""Annotation of a pod that the kubelet runs from a file."""


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    retiring: bool
    """We cordoned it."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Something that pods come from, or a pod."""

    name: str
    """As "Deployment llm/gemma-0123456789"."""
    spec: Json
    """Of its pods."""
    ending: bool
    """It is being deleted."""


def nodes(kube: Objects, selector: str) -> tuple[Node, ...]:
    """Those that a label selector chooses."""
    return tuple(node(o) for o in kube.list("v1", "Node", "", selector))


def labels(kube: Objects, name: str) -> Mapping[str, str] | None:
    """Of one node; None when they are not told: it is gone, or may not be read.

    Raises:
        Permanent, Transient, Unavailable: it could not be asked for otherwise.
    """
    try:
        found = kube.get(Ref("v1", "Node", name))
    except Permanent as e:
        if isinstance(e.__cause__, ApiException) and e.__cause__.status == 403:
            return None
        raise
    return None if found is None else found["metadata"].get("labels") or {}


def askers(kube: Objects, namespace: str, *, pods: bool) -> Iterator[Asker]:
    """Deployments and StatefulSets of a namespace, whosever they are.

    Args:
        pods: its pods too, those that have not finished.
    """
    for kind in ("Deployment", "StatefulSet"):
        for o in kube.list("apps/v1", kind, namespace):
            yield _asker(kind, o, o["spec"]["template"]["spec"])
    for o in kube.list("v1", "Pod", namespace) if pods else ():
        if not over(o):
            yield _asker("Pod", o, o["spec"])


def _asker(kind: str, o: Json, spec: Json) -> Asker:
    meta = o["metadata"]
    return Asker(f"{kind} {meta['namespace']}/{meta['name']}", spec, bool(meta.get("deletionTimestamp")))


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
    by_daemon = any(owner["kind"] == "DaemonSet" for owner in meta.get("ownerReferences") or ())
    return not over(o) and not by_daemon and _MIRROR not in (meta.get("annotations") or {})


def over(pod: Json) -> bool:
    """Whether a pod has finished, one way or the other."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
