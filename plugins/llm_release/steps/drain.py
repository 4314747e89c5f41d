"""Drains the release that served before: it keeps its open connections for a while, then ends, and is kept.

A selector moves new connections alone: a busy keep-alive client stays on the old pods until they end. So
they go on for `rollout.drain`, what still went there is counted, and then they are told to stop.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from llm_release.core.errors import Conflict
from llm_release.steps import deploy, evidence, lock, metrics, observe
from llm_release.steps.switch import Switched
from llm_release.steps.world import Wait, World

KEPT = "drain.json"


@dataclass(frozen=True, slots=True)
class Drained:
    STEP: ClassVar[str] = "promote.drain"
    previous: str
    drained_at: float | None
    """Unix seconds when its last pod was gone; None when there was nothing to drain."""
    served_during: int | None
    """Requests that the old pods still finished while they drained, as far as their metrics told."""


def run(world: World) -> Drained | Wait:
    switched = world.of(Switched)
    if not switched.previous:
        world.log("there was no release before this one")
        return Drained("", None, None)
    lock.hold(world)
    until = switched.switched_at + world.spec.rollout.drain
    if time.time() < until:
        world.log(f"release {switched.previous} keeps its open connections")
        return Wait(
            "time",
            str(until),
            world.spec.rollout.drain + 60,
            f"open connections to {switched.previous} to end by themselves",
        )
    who, namespace = world.names_of(switched.previous), world.spec.namespace
    found = world.kube.deployment(namespace, who.deployment)
    if found and found.replicas:
        _refuse_if_it_serves(world, switched.previous)
        _keep_count(world, switched)
        world.log(f"stopping the {found.ready} pods of release {switched.previous}")
        world.kube.scale(namespace, who.deployment, 0)
    selector = deploy.server_selector(world, switched.previous)
    if world.kube.pods(namespace, selector):
        return Wait(
            "pods",
            selector,
            world.spec.rollout.stop_within + 60,
            f"the pods of {switched.previous} to end",
            namespace,
        )
    world.log(
        f"release {switched.previous} is scaled to zero and kept: Deployment, volume and disk can be restored"
    )
    kept = evidence.read_json(world, KEPT) or {}
    return Drained(switched.previous, time.time(), kept.get("served_during"))


def _refuse_if_it_serves(world: World, previous: str) -> None:
    """A person may have switched back while the connections were given their time."""
    live = observe.live(world)
    if live.selected != world.release.id:
        raise Conflict(
            f"Service {world.spec.service} selects {live.selected or 'nothing'}, not {world.release.id} any more:"
            f" {previous} is left as it is.",
            next_action="nothing, if you switched back on purpose; the candidate still runs.",
        )


def _keep_count(world: World, switched: Switched) -> None:
    """What the old pods finished since the switch: the share of requests that a selector did not move."""
    now, then = metrics.finished(world, switched.previous), switched.previous_finished
    served = None if now is None or then is None else now - then
    world.log(f"requests that {switched.previous} finished after the switch: {served}")
    evidence.keep_json(world, KEPT, {"served_during": served})
