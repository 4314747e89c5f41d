"""Takes the service's Lease, and opens the release's folder in the store.

The plan is made before the Lease is taken, so that a release with nothing to do writes nothing at all;
that is why the live release is looked at once more here.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.kube_objects import Ref
from llm_release.core import lease as core
from llm_release.core.clusterspec import NodeImages
from llm_release.core.errors import Conflict
from llm_release.core.lease import Lease
from llm_release.core.names import Names
from llm_release.core.strict import encode
from llm_release.steps import evidence, manifests, observe
from llm_release.steps.plan import Planned
from llm_release.steps.world import Skipped, Surroundings, World


@dataclass(frozen=True, slots=True)
class Locked:
    STEP: ClassVar[str] = "open.lock"
    holder: str
    fence: int
    manifests: str
    """URI of the kept manifests."""
    node_images: NodeImages | None
    """The cluster's, as its file was then: what is begun there is ended there, whatever becomes of the file."""


def run(world: World) -> Locked:
    planned = world.of(Planned)
    if planned.nothing_to_do:
        raise Skipped(f"release {world.release.id} is already live: nothing was written anywhere.")
    fence = _acquire(world)
    now = observe.settled(world)
    if now.release != planned.live:
        raise Conflict(
            f"the live release changed from {planned.live or 'nothing'} to {now.release or 'nothing'}"
            " since the plan was made.",
            next_action="clear plan and what follows it, or trigger again.",
        )
    rendered = manifests.release_manifests(
        world.home, spec=world.spec, cluster=world.cluster, release=world.release
    )
    uri = evidence.keep(world, "manifests.jsonl", manifests.to_lines(rendered))
    evidence.keep_json(world, "plan.json", {"release": encode(world.release), **encode(planned)})
    world.log(f"holder={world.holder} fence={fence} manifests={uri}")
    return Locked(world.holder, fence, uri, world.cluster.node_images)


def hold(world: World, *, closing: bool = False) -> None:
    """Every step that changes something asks first: is the Lease still ours? And renews it.

    Args:
        closing: the run is being closed: from now on none of its other steps may change anything.

    Raises:
        Conflict: it is not; the present holder is named.
    """
    try:
        _renew(world, closing=closing)
    except Conflict:
        # Another try of ours, or our own write whose answer was lost, renewed it in between; or it is not ours.
        _renew(world, closing=closing)


def _renew(world: World, *, closing: bool) -> None:
    found = _read(world)
    mine = {world.holder, world.holder + core.CLOSING} if closing else {world.holder}
    if found is None or found.holder not in mine:
        holder = found.holder if found and found.holder else "nobody"
        raise Conflict(
            f"the lease of {world.spec.service} is held by {holder}, not by this run.",
            next_action="let that run finish, then clear open.lock of this run.",
        )
    holder = world.holder + core.CLOSING if closing else world.holder
    _write(world, holder=holder, fence=found.fence, version=found.version)


def release(world: World) -> bool:
    """Gives the Lease back; False when it was not ours (any more)."""
    found = _read(world)
    if found is None or found.holder.removesuffix(core.CLOSING) != world.holder:
        return False
    _write(world, holder="", fence=found.fence, version=found.version)
    return True


def holder(at: Surroundings, service: str, namespace: str) -> str:
    """Who holds a service's Lease, empty for nobody."""
    body = at.kube.get(Ref("coordination.k8s.io/v1", "Lease", Names(service, namespace, "").lease, namespace))
    return Lease.read(body).holder if body else ""


def _acquire(world: World) -> int:
    seen, since = "", time.monotonic()
    while True:
        found = _read(world)
        over = bool(found and found.holder and world.run_is_over(found.holder.removesuffix(core.CLOSING)))
        if found and found.renewed != seen:
            seen, since = found.renewed, time.monotonic()
        decision = core.decide(
            found, me=world.holder, holder_is_over=over, unchanged_for=time.monotonic() - since
        )
        if decision.act == "refuse":
            raise Conflict(
                decision.message,
                next_action="wait for that run, or mark it failed in Airflow if it is dead; if Airflow does not know it"
                f" any more: kubectl -n {world.spec.namespace} delete lease {_name(world)}.",
            )
        if decision.act != "watch":
            world.log(decision.message)
            fence = (found.fence if found else 0) + (0 if decision.act == "keep" else 1)
            _write(world, holder=world.holder, fence=fence, version=found.version if found else None)
            return fence
        world.log(decision.message)
        time.sleep(core.DURATION_S / 3)


def _read(world: World) -> Lease | None:
    body = world.kube.get(Ref("coordination.k8s.io/v1", "Lease", _name(world), world.spec.namespace))
    return Lease.read(body) if body else None


def _write(world: World, *, holder: str, fence: int, version: str | None) -> None:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {
        "holderIdentity": holder or None,
        "leaseTransitions": fence,
        "leaseDurationSeconds": core.DURATION_S,
        "renewTime": now,
    }
    world.kube.swap_lease(world.spec.namespace, _name(world), spec, version)


def _name(world: World) -> str:
    return f"llm-release-{world.spec.service}"
