"""Proof of what is served, per pod, before a gate is asked and again before traffic moves.

A pod is this release when its image has the release's digest, its volume is the release's disk by number,
and its engine says that it loaded the release's folder, which exists on that disk alone. Anything else
behind the preview Service ends the release (catalogue F51).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from llm_release.clients.kube_objects import Ref
from llm_release.core import names as n
from llm_release.core.errors import Permanent, Transient
from llm_release.core.readiness import Pod
from llm_release.steps import disk, lock
from llm_release.steps.disk import Volume
from llm_release.steps.world import World

ENDPOINTS_WITHIN_S = 20
"""EndpointSlices follow readiness within a second or two."""


@dataclass(frozen=True, slots=True)
class Identity:
    pod: str
    image_id: str
    model: str
    root: str
    max_model_len: int
    engine: str


@dataclass(frozen=True, slots=True)
class Identified:
    STEP: ClassVar[str] = "roll_out.identify"
    disk_id: str
    pods: tuple[Identity, ...]


def run(world: World) -> Identified:
    lock.hold(world)
    found = check(world)
    for pod in found.pods:
        world.log(f"pod={pod.pod} model={pod.model} root={pod.root} engine={pod.engine} image={pod.image_id}")
    return found


def check(world: World) -> Identified:
    """Looks at every pod behind the preview Service.

    Raises:
        Permanent: one of them is not this release, or there is none.
    """
    namespace, who = world.spec.namespace, world.names
    behind = _behind_preview(world)
    pods = {p.name: p for p in world.kube.pods(namespace, f"{n.SERVICE}={world.spec.service}")}
    strange = [name for name in behind if name not in pods or pods[name].label(n.RELEASE) != world.release.id]
    if strange:
        raise Permanent(
            f"behind {who.preview} are pods that are not release {world.release.id}: {', '.join(strange)}.",
            next_action="find out who labelled or selected them; nothing was promoted.",
        )
    volume = disk.owned(world, id=world.of(Volume).id)
    _volume(world)
    return Identified(volume.id, tuple(_identity(world, pods[name]) for name in behind))


def _behind_preview(world: World) -> tuple[str, ...]:
    """The endpoints of the preview Service, once they are as many as the Deployment has ready pods."""
    namespace, who = world.spec.namespace, world.names
    end = time.monotonic() + ENDPOINTS_WITHIN_S
    while True:
        found = world.kube.deployment(namespace, who.deployment)
        behind = world.kube.endpoints(namespace, who.preview)
        if found and found.ready and len(behind) >= found.ready:
            return behind
        if time.monotonic() > end:
            wanted = found.ready if found else 0
            raise Transient(
                f"behind {who.preview} are {len(behind)} pods, {wanted} are ready.",
                next_action="the task will try again.",
            )
        time.sleep(0.3)


def _volume(world: World) -> None:
    pv = world.kube.get(Ref("v1", "PersistentVolume", world.names.pv))
    handle = ((pv or {}).get("spec", {}).get("csi") or {}).get("volumeHandle", "")
    if not handle.endswith(f"/zones/{world.release.zone}/disks/{world.names.disk}"):
        raise Permanent(
            f"volume {world.names.pv} points at {handle or 'nothing'}.", next_action="clear stage.publish."
        )


def _identity(world: World, pod: Pod) -> Identity:
    digest = world.release.image.split("@")[1]
    engine = next(c for c in pod.containers if c.name == "engine")
    if digest not in engine.image_id:
        raise Permanent(
            f"pod {pod.name} runs image {engine.image_id}, not {digest}.",
            next_action="delete that pod; find out who changed it.",
        )
    models = _json(world, pod, "/v1/models").get("data") or []
    model = next((m for m in models if m.get("id") == world.spec.service), None)
    if model is None:
        served = ", ".join(str(m.get("id")) for m in models) or "nothing"
        raise Permanent(
            f"pod {pod.name} serves {served}, not {world.spec.service}.",
            next_action="remove --served-model-name from engine.extra_args.",
        )
    if model.get("root") != world.names.model_path:
        raise Permanent(
            f"pod {pod.name} loaded {model.get('root')}, not {world.names.model_path}.",
            next_action="nothing was promoted; read the pod's log.",
        )
    version = str(_json(world, pod, "/version").get("version", ""))
    return Identity(
        pod.name,
        engine.image_id,
        str(model["id"]),
        str(model["root"]),
        int(model.get("max_model_len") or 0),
        version,
    )


def _json(world: World, pod: Pod, path: str) -> dict[str, Any]:
    text = world.kube.through_proxy(world.spec.namespace, pod.name, n.PORT, path)
    try:
        found = json.loads(text)
    except ValueError:
        raise Transient(
            f"{path} of pod {pod.name} is no JSON.", next_action="the task will try again."
        ) from None
    return found if isinstance(found, dict) else {}
