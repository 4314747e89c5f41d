"""Sees to it that there can be nodes with the engine's secondary boot disk, before the first pod asks for one.

A Standard cluster gets a node pool, which is empty until then; a cluster with ComputeClasses gets one that names the
disk; Autopilot makes nodes by itself, if the cluster's allow-list lets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients import kube_nodes
from llm_release.clients.kube_objects import Ref, refuse_foreign
from llm_release.clients.node_pools import Busy, Pool, PoolWish
from llm_release.clients.operations import Operation
from llm_release.core import nodeplace
from llm_release.core.bootdisk import Names
from llm_release.core.clusterspec import NodeImages
from llm_release.core.errors import Conflict, Permanent, Transient
from llm_release.steps import evidence, image_work, lock, manifests
from llm_release.steps.verify_image import VerifiedImage
from llm_release.steps.world import Wait, World

CREATED_WITHIN_S = 1800
DELETED_WITHIN_S = 4500
"""GKE drains a pool's nodes for up to an hour."""
_USABLE = ("RUNNING", "RUNNING_WITH_ERROR", "RECONCILING")


@dataclass(frozen=True, slots=True)
class Nodes:
    STEP: ClassVar[str] = "stage.nodes"
    mode: str
    name: str
    """Of the node pool or ComputeClass; empty on Autopilot."""
    selector: Mapping[str, str]
    """Node selector of the release's pods."""


def run(world: World) -> Nodes | Wait:
    """
    Raises:
        Skipped: the cluster has no secondary boot disks.
        Permanent: the image is not allowed, or something else has the name of our pool or class.
    """
    want = image_work.of_release(world)
    chosen, names = want.spec, want.names
    world.of(VerifiedImage)
    name = nodeplace.name(names, chosen, world.spec.accelerator, world.release.zone)
    selector = _selector(world)
    if chosen.mode != "standard":
        image_work.check_allowed(world, names)
    if chosen.mode == "compute-class":
        _class(world, names, name)
    if chosen.mode == "standard" and (waiting := _pool(world, chosen, names, name)):
        return waiting
    world.log(f"mode={chosen.mode} name={name or 'none'}")
    return Nodes(chosen.mode, name, selector)


def begun(world: World, act: Callable[[], Operation | None], what: str, *, within: float) -> Wait | None:
    """Starts a change of the cluster; -> what to wait for: its end, or that of another one that is in the way."""
    try:
        started = act()
    except Busy as e:
        if not e.operation:
            raise
        world.log(str(e))
        return Wait("node_pool", e.operation, 3600, "another change of the cluster to end")
    return Wait("node_pool", started.name, within, what) if started else None


def _selector(world: World) -> dict[str, str]:
    """The pods' own, from the manifest that will be applied; what is made here must be what they ask for."""
    kept = evidence.manifest(world, "deployment")["spec"]["template"]["spec"]["nodeSelector"]
    now = manifests.serving_selector(world.spec, world.cluster, world.release)
    if kept != now:
        raise Permanent(
            f"include/clusters/{world.cluster.cluster}.yaml was changed since this run was opened.",
            next_action="clear open.lock and what follows it.",
        )
    return now


def _class(world: World, names: Names, name: str) -> None:
    accelerator = world.spec.accelerator
    values = {
        "CLASS": name,
        "LABELS": nodeplace.class_labels(names),
        "GPU": accelerator.type,
        "GPUS": accelerator.count,
        "SPOT": accelerator.spot,
        "IMAGE": names.image,
        "PROJECT": world.cluster.project,
    }
    body = manifests.render(world.home, "compute-class", values)
    refuse_foreign(Ref.of(body), world.kube.get(Ref.of(body)), world.spec.service)
    lock.hold(world)
    applied = world.kube.apply(body)
    world.log(f"{applied.change} {applied.ref}")


def _pool(world: World, chosen: NodeImages, names: Names, name: str) -> Wait | None:
    """-> what to wait for, None when the pool takes pods."""
    wish = _wish(world, chosen, names, name)
    found = world.node_pools.get(name)
    if found is None:
        lock.hold(world)
        return _create(world, wish)
    _check_ours(found, wish)
    if found.status == "ERROR":
        lock.hold(world)
        world.log(f"deleting node pool={name}: it could not be made: {found.said}")
        what = f"node pool {name} to be deleted, to be made again"
        return begun(world, lambda: world.node_pools.delete(name), what, within=DELETED_WITHIN_S)
    if found.status not in _USABLE:
        return _under_way(world, found)
    if found.max != wish.max:
        world.log(
            f"node pool={name} has max={found.max}, the cluster's file says max={wish.max}: left as it is"
        )
    if found.said:
        world.log(f"node pool={name} status={found.status} says: {found.said}")
    for node in kube_nodes.nodes(world.kube, f"{nodeplace.POOL}={name}"):
        if node.retiring:  # a run began to take the pool away, and did not finish
            lock.hold(world)
            kube_nodes.cordon(world.kube, node.name, retiring=False)
    return None


def _create(world: World, wish: PoolWish) -> Wait | None:
    try:
        waiting = begun(
            world,
            lambda: world.node_pools.create(wish),
            f"node pool {wish.name} to be made",
            within=CREATED_WITHIN_S,
        )
    except Conflict:
        # A release of another service that has the same engine was faster.
        found = world.node_pools.get(wish.name)
        if found is None:
            raise
        return _under_way(world, found)
    world.log(f"creating node pool={wish.name} machine={wish.machine} zone={wish.zone} max={wish.max}")
    return waiting


def _under_way(world: World, found: Pool) -> Wait:
    running = world.node_pools.running(found.name)
    if running is None:
        raise Transient(
            f"node pool {found.name} is {found.status}, and no operation works on it.",
            next_action="the task will look again.",
        )
    return Wait(
        "node_pool", running.name, DELETED_WITHIN_S, f"node pool {found.name}, which is {found.status}"
    )


def _wish(world: World, chosen: NodeImages, names: Names, name: str) -> PoolWish:
    pool, accelerator = chosen.node_pool, world.spec.accelerator
    assert pool is not None  # the cluster's file says so
    return PoolWish(
        name=name,
        zone=world.release.zone,
        machine=pool.machine,
        disk_gib=pool.disk_gib,
        service_account=pool.service_account,
        accelerator=accelerator.type,
        accelerators=accelerator.count,
        spot=accelerator.spot,
        disk_image=nodeplace.resource(world.cluster.project, names),
        max=pool.max,
        node_labels=nodeplace.node_labels(names),
        labels=names.labels,
    )


def _check_ours(found: Pool, wish: PoolWish) -> None:
    if wish.labels.items() - found.labels.items() or found.disk_images != (wish.disk_image,):
        raise Permanent(
            f"node pool {found.name} exists and is not ours for {wish.disk_image}"
            f" (it has {', '.join(found.disk_images) or 'no secondary boot disk'}).",
            next_action="delete or rename that pool; nothing was changed.",
        )
