"""The ordered list of what this run would do: dry-run applies, and the disk as Compute has it. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.kube_objects import Ref
from llm_release.core import bootdisk, nodeplace
from llm_release.core import plan as core
from llm_release.core.plan import Change, Plan
from llm_release.steps import manifests, observe
from llm_release.steps.world import World

DRY_RUN = ("pv", "pvc", "prompts", "deployment", "preview-service")
"""The staging volume and its Job are left out: they are gone by the time the read-only volume exists."""


@dataclass(frozen=True, slots=True)
class Planned:
    STEP: ClassVar[str] = "open.plan"
    nothing_to_do: bool
    repairs: bool
    live: str
    previous: str
    live_ready: int
    text: str


def run(world: World) -> Planned:
    plan = _plan(world)
    for line in plan.text().splitlines():
        world.log(line)
    live = plan.live
    return Planned(plan.nothing_to_do, plan.repairs, live.release, live.previous, live.ready, plan.text())


def _plan(world: World) -> Plan:
    live = observe.settled(world)
    settled = core.make(release=world.release.id, live=live, stage=(), promote=())
    if settled.nothing_to_do:
        return settled
    return core.make(release=world.release.id, live=live, stage=_stage(world), promote=_promote(world, live))


def _stage(world: World) -> list[Change]:
    release, who = world.release, world.names
    disk = world.disks.get(release.zone, who.disk)
    ready = disk is not None and disk.access_mode == "READ_ONLY_MANY"
    stage = [
        Change(
            "keep" if disk else "create",
            f"Disk {who.disk}",
            f"{release.zone}, {release.total_bytes} bytes to hold",
        )
    ]
    if not ready:
        stage.append(
            Change(
                "create",
                f"Job {who.job('hydrate')}",
                f"{release.files} files from {release.repo}@{release.commit[:12]}",
            )
        )
        stage.append(Change("change", f"Disk {who.disk}", "sealed READ_ONLY_MANY, one way"))
    stage += node_changes(world)
    rendered = manifests.release_manifests(
        world.home, spec=world.spec, cluster=world.cluster, release=release
    )
    for file in DRY_RUN:
        applied = world.kube.apply(rendered[file], dry_run=True)
        stage.append(
            Change(
                "keep" if applied.change == "keep" else "create" if applied.change == "create" else "change",
                str(applied.ref),
            )
        )
    return stage


def node_changes(world: World) -> list[Change]:
    """The engine's disk image and what makes nodes with it; nothing where a cluster has no secondary boot disks."""
    spec, names = world.cluster.node_images, bootdisk.Names.of((world.release.image,))
    if spec is None:
        return []
    image = world.machines.image(names.image)
    verified = image is not None and bootdisk.is_verified(image.labels)
    changes = [
        Change(
            "keep" if verified else "create",
            f"Disk image {names.image}",
            "verified" if verified else f"layers of {world.release.image_tag}, built and verified",
        )
    ]
    name = nodeplace.name(names, spec, world.spec.accelerator, world.release.zone)
    if spec.node_pool is not None:
        there = world.node_pools.get(name) is not None
        why = f"{spec.node_pool.machine}, 0 to {spec.node_pool.max} nodes"
        changes.append(Change("keep" if there else "create", f"Node pool {name}", why))
    elif name:
        there = world.kube.get(Ref(*nodeplace.COMPUTE_CLASS, name)) is not None
        changes.append(Change("keep" if there else "create", f"ComputeClass {name}"))
    return changes


def _promote(world: World, live: core.Live) -> list[Change]:
    spec = world.spec
    wanted = max(spec.scaling.min, live.ready)
    scaled = Change("change", f"Deployment {world.names.deployment}", f"{wanted} replicas before the switch")
    if not live.release:
        return [scaled, Change("create", f"Service {spec.namespace}/{spec.service}", "selects this release")]
    old = world.names_of(live.release).deployment
    return [
        scaled,
        Change(
            "change",
            f"Service {spec.namespace}/{spec.service}",
            f"selects this release instead of {live.release}",
        ),
        Change("change", f"Deployment {old}", f"drained for {spec.rollout.drain:g} s, then 0 replicas, kept"),
    ]
