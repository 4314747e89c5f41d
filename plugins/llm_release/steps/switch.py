"""Promotes: capacity first, then one write to the Service, then proof that only the candidate is behind it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.kube_objects import Ref
from llm_release.core.errors import Conflict, Permanent, Transient
from llm_release.core.plan import Live
from llm_release.core.strict import encode
from llm_release.steps import deploy, identify, lock, manifests, metrics, observe
from llm_release.steps.plan import Planned
from llm_release.steps.verdict import Decided
from llm_release.steps.world import Wait, World

ENDPOINTS_WITHIN_S = 60
"""An internal load balancer follows endpoint changes within a minute; kube-proxy within a second."""


@dataclass(frozen=True, slots=True)
class Switched:
    STEP: ClassVar[str] = "promote.switch"
    previous: str
    """Release that served until now; empty for the first."""
    replicas: int
    switched_at: float
    """Unix seconds, on the worker's clock."""
    previous_finished: int | None
    """Requests that the previous release's pods had finished by then, from their metrics."""
    endpoint: str
    """Address of the Service: host:port."""
    pods: tuple[str, ...]


def run(world: World) -> Switched | Wait:
    if world.of(Decided).verdict != "PASS":
        raise Permanent("the verdict is not PASS.", next_action="nothing is promoted without one.")
    lock.hold(world)
    live = observe.settled(world)
    if live.release == world.release.id == live.selected:
        return _facts(world, live.previous, time.time(), None)
    if live.release != world.of(Planned).live:
        raise Conflict(
            f"{live.release or 'nothing'} is live, and was not when this release was planned.",
            next_action="trigger the release again.",
        )
    replicas = max(world.spec.scaling.min, live.ready)
    if left := deploy.scaled(world, replicas):
        return left
    identify.check(world)
    before = metrics.finished(world, live.release) if live.release else None
    switched_at = time.time()
    # This task may have been told to die while it looked: its Lease is asked for at the last moment.
    lock.hold(world)
    _write(world, live)
    return _facts(world, live.release, switched_at, before)


def _write(world: World, live: Live) -> None:
    """One optimistic write: if the Service changed since `live` was read, nothing happens."""
    body = manifests.live_service(
        world.home, spec=world.spec, release=world.release.id, previous=live.release
    )
    if live.version:
        body["metadata"]["resourceVersion"] = live.version
    world.kube.apply(body)
    world.log(
        f"service={world.spec.namespace}/{world.spec.service} release={world.release.id}"
        f" previous={live.release or 'none'}"
    )


def _facts(world: World, previous: str, switched_at: float, before: int | None) -> Switched:
    pods = _only_ours(world)
    service = world.kube.get(Ref("v1", "Service", world.spec.service, world.spec.namespace))
    assert service is not None
    facts = Switched(previous, len(pods), switched_at, before, f"{service['spec']['clusterIP']}:8000", pods)
    _point(world, facts)
    return facts


def _only_ours(world: World) -> tuple[str, ...]:
    """Waits until the Service has no endpoint but the candidate's."""
    end = time.monotonic() + ENDPOINTS_WITHIN_S
    namespace = world.spec.namespace
    while True:
        ours = {p.name for p in world.kube.pods(namespace, deploy.server_selector(world))}
        behind = world.kube.endpoints(namespace, world.spec.service)
        if behind and set(behind) <= ours:
            return behind
        if time.monotonic() > end:
            found = ", ".join(behind) or "no pods"
            raise Transient(
                f"behind Service {world.spec.service} are {found} after {ENDPOINTS_WITHIN_S} s.",
                next_action="the task will look again.",
            )
        time.sleep(0.2)


def _point(world: World, facts: Switched) -> None:
    """live.json in the store: the copy of what the Service says, from which it could be rebuilt."""
    path = f"{world.spec.service}/live.json"
    document = {
        "release": encode(world.release),
        "previous": facts.previous,
        "switched_at": facts.switched_at,
    }
    kept = world.store.read_text(path)
    if kept and json.loads(kept[0])["release"]["id"] == world.release.id:
        return
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    if kept:
        world.store.write_text(path, text, if_generation=kept[1])
    else:
        world.store.write_text(path, text, if_absent=True)
