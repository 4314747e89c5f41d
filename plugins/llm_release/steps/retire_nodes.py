"""Takes away the node pools and ComputeClasses of ours that nothing names any more.

Deployments and StatefulSets of the services' namespaces name nodes, whosever they are; a release that is kept to be
restored does, at zero pods. For a ComputeClass the pods there count too. Whatever cannot be told for sure is left: a
pool with somebody's pods on it, and everything while another service of the cluster is being released, because its
candidate may be about to name what nothing names yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from llm_release.clients import kube_nodes
from llm_release.clients.kube_objects import Ref
from llm_release.core import bootdisk, nodeplace
from llm_release.core import names as n
from llm_release.core.errors import ReleaseError
from llm_release.steps import image_work, lock, manifests, observe
from llm_release.steps.nodes import DELETED_WITHIN_S, begun
from llm_release.steps.world import Skipped, Wait, World


@dataclass(frozen=True, slots=True)
class Retired:
    STEP: ClassVar[str] = "promote.retire_nodes"
    left: tuple[str, ...]
    """Pools and classes that nothing names and that had to be left this time."""


def run(world: World) -> Retired | Wait:
    """
    Raises:
        Skipped: nodes are no business of ours in this cluster.
        ReleaseError: something could not be taken away. The release serves all the same, as the message says.
    """
    if image_work.of_release(world).spec.mode not in nodeplace.MADE:
        raise Skipped("Autopilot takes its nodes away by itself.")
    try:
        left = remove(world)
    except ReleaseError as e:
        e.cause = f"release {world.release.id} serves, and nodes that nothing needs are left: {e.cause}"
        e.next_action = f"nothing for the service, the next release tries again; {e.next_action}"
        raise
    return left if isinstance(left, Wait) else Retired(left)


def remove(world: World, *, closing: bool = False) -> Wait | tuple[str, ...]:
    """Deletes what nothing needs.

    Args:
        closing: the run is being closed (see `lock.hold`).

    Returns:
        What to wait for before it is called again; or, when nothing is left to do, the names that had to be left.
    """
    mode = world.cluster.node_images.mode if world.cluster.node_images else "autopilot"
    if mode not in nodeplace.MADE:
        return ()
    left: list[str] = []
    for name in nodeplace.unnamed(_found(world, mode), _named(world, mode)):
        if reason := _in_use(world, mode, name):
            world.log(f"leaving {name}, which nothing names: {reason}")
            left.append(name)
            continue
        lock.hold(world, closing=closing)
        world.log(f"deleting {name}: nothing names it")
        if mode == "compute-class":
            world.kube.delete(Ref(*nodeplace.COMPUTE_CLASS, name))
        elif waiting := _delete_pool(world, name):
            return waiting
    return tuple(left)


def _found(world: World, mode: str) -> list[str]:
    if mode == "compute-class":
        ours = world.kube.list(*nodeplace.COMPUTE_CLASS, "", f"{n.MANAGED_BY}={n.FIELD_MANAGER}")
        return [o["metadata"]["name"] for o in _staying(ours)]
    pools = world.node_pools.list()
    return [p.name for p in pools if bootdisk.DIGEST in p.labels and p.status != "STOPPING"]


def _named(world: World, mode: str) -> frozenset[str]:
    """What anything names in the namespaces of the cluster's services; and this release, if it serves."""
    selectors: list[Mapping[str, str]] = []
    others = manifests.services_on(world.home, world.cluster.cluster)
    for namespace in sorted({world.spec.namespace} | {s.namespace for s in others}):
        if world.kube.get(Ref("v1", "Namespace", namespace)) is None:
            continue
        for asker in kube_nodes.askers(world.kube, namespace, pods=mode == "compute-class"):
            if not asker.ending:
                selectors += nodeplace.selectors(asker.spec)
    if observe.live(world).serves(world.release.id):
        selectors.append(manifests.serving_selector(world.spec, world.cluster, world.release))
    return nodeplace.named(selectors)


def _staying(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (o for o in found if not o["metadata"].get("deletionTimestamp"))


def _in_use(world: World, mode: str, name: str) -> str:
    """Why it has to stay although nothing names it; the nodes of a pool that may go are cordoned then."""
    for spec in manifests.services_on(world.home, world.cluster.cluster):
        if spec.service != world.spec.service and (
            holder := lock.holder(world, spec.service, spec.namespace)
        ):
            return f"{spec.service} is being released by {holder}"
    pods = _pods_on(world, name, cordon=True) if mode == "standard" else ()
    return f"pods run on it: {', '.join(pods[:5])}" if pods else ""


def _pods_on(world: World, pool: str, *, cordon: bool) -> tuple[str, ...]:
    """Pods on a pool's nodes that would have to move; with none the nodes are cordoned, and looked at once more."""
    nodes = kube_nodes.nodes(world.kube, f"{nodeplace.POOL}={pool}")
    pods = tuple(pod for node in nodes for pod in kube_nodes.movable_pods(world.kube, node.name))
    if pods or not cordon or not nodes:
        return pods
    for node in nodes:
        kube_nodes.cordon(world.kube, node.name, retiring=True)
    pods = _pods_on(world, pool, cordon=False)
    if pods:
        _uncordon(world, pool)
    return pods


def _uncordon(world: World, pool: str) -> None:
    for node in kube_nodes.nodes(world.kube, f"{nodeplace.POOL}={pool}"):
        if node.retiring:
            kube_nodes.cordon(world.kube, node.name, retiring=False)


def _delete_pool(world: World, name: str) -> Wait | None:
    what = f"node pool {name} to be deleted"
    return begun(world, lambda: world.node_pools.delete(name), what, within=DELETED_WITHIN_S)
