"""Publishes the sealed disk: a static read-only-many PV and its PVC, bound to each other."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from llm_release.clients.compute import READ_ONLY_MANY
from llm_release.clients.kube_objects import Ref, refuse_foreign
from llm_release.core.errors import Conflict, Permanent, Transient
from llm_release.steps import disk, evidence, lock
from llm_release.steps.disk import Volume
from llm_release.steps.world import World

BIND_WITHIN_S = 30


@dataclass(frozen=True, slots=True)
class Published:
    STEP: ClassVar[str] = "stage.publish"
    pv: str
    pvc: str
    handle: str


def run(world: World) -> Published:
    found = disk.owned(world, id=world.of(Volume).id)
    if found.access_mode != READ_ONLY_MANY:
        raise Permanent(
            f"disk {found.name} is {found.access_mode}, not sealed.", next_action="clear stage.seal."
        )
    lock.hold(world)
    pv = evidence.manifest(world, "pv")
    _check(world, pv)
    world.kube.apply(pv)
    world.kube.apply(evidence.manifest(world, "pvc"))
    bound = _bound(world)
    handle = bound["spec"]["csi"]["volumeHandle"]
    world.log(f"pv={world.names.pv} pvc={world.names.pvc} handle={handle}")
    return Published(world.names.pv, world.names.pvc, handle)


def _check(world: World, wanted: dict[str, Any]) -> None:
    """An existing PV must be ours, of the same disk, and keep it; its source can never be changed."""
    ref = Ref.of(wanted)
    found = world.kube.get(ref)
    refuse_foreign(ref, found, world.spec.service)
    if found is None:
        return
    claim = found["spec"].get("claimRef") or {}
    if (claim.get("namespace"), claim.get("name")) != (world.spec.namespace, world.names.pvc):
        raise Conflict(
            f"PersistentVolume {ref.name} is bound to {claim.get('namespace')}/{claim.get('name')}.",
            next_action="remove that claim if nothing uses it; a volume is never rebound.",
        )
    if found["spec"].get("csi", {}).get("volumeHandle") != wanted["spec"]["csi"]["volumeHandle"]:
        raise Conflict(
            f"PersistentVolume {ref.name} points at another disk.",
            next_action="delete that PersistentVolume.",
        )
    if found["spec"].get("persistentVolumeReclaimPolicy") != "Retain":
        raise Permanent(
            f"PersistentVolume {ref.name} has reclaim policy {found['spec'].get('persistentVolumeReclaimPolicy')}:"
            " its disk would die with its claim.",
            next_action=f"set persistentVolumeReclaimPolicy of {ref.name} to Retain, then clear this task.",
        )


def _bound(world: World) -> dict[str, Any]:
    end = time.monotonic() + BIND_WITHIN_S
    ref = Ref("v1", "PersistentVolume", world.names.pv)
    while True:
        found = world.kube.get(ref)
        phase = (found or {}).get("status", {}).get("phase", "missing")
        if found is not None and phase == "Bound":
            return found
        if phase in ("Released", "Failed"):
            raise Permanent(
                f"PersistentVolume {ref.name} is {phase}: its claim was deleted.",
                next_action="delete that PersistentVolume (its disk is kept), then clear this task.",
            )
        if time.monotonic() > end:
            raise Transient(
                f"PersistentVolume {ref.name} is {phase} after {BIND_WITHIN_S} s.",
                next_action="the task will try again.",
            )
        time.sleep(0.3)
