"""Splits the cold start of every ready pod of the candidate, keeps the ledgers, and holds them to the gate.

A release that is too slow, by a budget or beside the release that serves now, is refused like one whose answers are
wrong. Where the cluster has secondary boot disks, it is also told of each pod whether its node used its own.

A ledger ends at Ready: workers cannot reach pods, so the first token is measured by the smoke gate
(`Smoke.first_token_s`), which asks the first question.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients import kube_nodes
from llm_release.core import bootdisk, coldstart, imagecache, ledgers
from llm_release.core.coldstart import ColdStart, PodTimes
from llm_release.core.enginelog import unix
from llm_release.core.errors import ReleaseError, Transient
from llm_release.core.ledgers import Ledgers, Outcome, PodStart
from llm_release.core.readiness import Pod
from llm_release.core.strict import Invalid, decode, encode
from llm_release.core.verdict import Verdict
from llm_release.steps import deploy, evidence, lock, observe
from llm_release.steps.plan import Planned
from llm_release.steps.refused import Refused
from llm_release.steps.world import World

FILE = "cold-start.json"
ENGINE = "engine"
_MOST_PODS, _MOST_REASONS = 6, 10
"""In the facts, which must stay small; the evidence has them all."""
LOG_WITHIN_S, LOG_PAUSE_S = 15.0, 3.0
"""A node's line may be in Cloud Logging some seconds after it was written: how long and how often it is looked for."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    pod: str
    node: str
    total_s: float
    attributed: float
    """Share of the total that is in a named phase, 0 to 1."""
    phases: Mapping[str, float]
    """Seconds by name (core/coldstart.py)."""
    image_present: bool | None
    image_pull_s: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ColdStarted:
    STEP: ClassVar[str] = "roll_out.cold_start"
    outcome: Outcome
    reasons: tuple[str, ...]
    compared_with: str
    """Id of the release whose ledgers these were compared with; empty: with none."""
    pods: tuple[PodFacts, ...]
    """The slowest first."""
    evidence: str


def run(world: World) -> ColdStarted:
    """
    Raises:
        Refused: over the budget; or slower than the live release, or without its boot disk, where the spec says so.
        Transient: no pod stayed ready while it was looked at.
    """
    lock.hold(world)
    if world.of(Planned).repairs:
        said = "cold start: the release serves already; it is not measured again."
        world.log(said)
        return ColdStarted("PASS", (said,), "", (), "")
    now = Ledgers(release=world.release.id, pods=_starts(world))
    last, without = _last(world)
    found = ledgers.judge(now, last, world.spec.gates.cold_start, without=without)
    # The evidence first: what was measured stays, also when something ends this task right after.
    uri = evidence.keep_json(world, FILE, encode(now))
    slowest_first = sorted(now.pods, key=lambda p: -p.ledger.total_s)[:_MOST_PODS]
    facts = ColdStarted(
        found.outcome,
        found.reasons[:_MOST_REASONS],
        last.release if last else "",
        tuple(_facts(p) for p in slowest_first),
        uri,
    )
    _tell(world, slowest_first, last, facts)
    if facts.outcome == "FAIL":
        raise Refused(
            "FAIL",
            facts.reasons[0],
            next_action="see which phase of the ledger grew (cold-start.json); the live release still serves.",
            facts=facts,
        )
    return facts


def _starts(world: World) -> tuple[PodStart, ...]:
    namespace = world.spec.namespace
    found: list[tuple[Pod, PodTimes, ColdStart]] = []
    for pod in world.kube.pods(namespace, deploy.server_selector(world)):
        if not pod.ready or pod.terminating:
            continue
        times = world.kube.pod_times(namespace, pod.name, ENGINE)
        if times is None or "Ready" not in times.conditions:
            world.log(f"pod={pod.name} went away while it was looked at")
            continue
        events = world.kube.pod_events(namespace, pod.name)
        log = world.kube.start_log(namespace, pod.name, ENGINE)
        found.append((pod, times, coldstart.ledger(times, events, log)))
    if not found:
        raise Transient(
            f"no pod of {world.names.deployment} stayed ready while its cold start was looked at.",
            next_action="the task will try again.",
        )
    images = _images(world, found) if world.cluster.node_images else {}
    return tuple(
        PodStart(pod=pod.name, node=pod.node, ledger=ledger, image=images.get(pod.name))
        for pod, _, ledger in found
    )


def _images(world: World, pods: list[tuple[Pod, PodTimes, ColdStart]]) -> Mapping[str, Verdict]:
    """By pod: whether its node's secondary boot disk was used."""
    digest = world.release.image.rpartition("@")[2]
    image = bootdisk.Names(digest).image
    labels = {node: _labels(world, node) for node in sorted({pod.node for pod, _, _ in pods})}
    lines = _snapshotter(world, pods, digest)
    return {
        pod.name: imagecache.judge(
            ledger,
            imagecache.of_image(lines.get(pod.node, ()), digest),
            labels=labels[pod.node],
            image=image,
            pull_s=world.spec.gates.cold_start.image_pull,
        )
        for pod, _, ledger in pods
    }


def _labels(world: World, node: str) -> Mapping[str, str] | None:
    found = kube_nodes.labels(world.kube, node)
    if found is None:
        world.log(f"the labels of node {node} are not told: it may not be read, or is gone")
    return found


def _snapshotter(
    world: World, pods: list[tuple[Pod, PodTimes, ColdStart]], digest: str
) -> Mapping[str, tuple[str, ...]]:
    """What the nodes said of secondary boot disks since the first of these pods; nothing when it cannot be read.

    A node that pulled the image and has no line about it yet is given LOG_WITHIN_S.
    """
    since = min((times.created for _, times, _ in pods), key=unix)
    nodes = [pod.node for pod, _, _ in pods]
    pulled = {pod.node for pod, _, ledger in pods if ledger.image_pull_s is not None}
    lines: Mapping[str, tuple[str, ...]] = {}
    end = time.monotonic() + LOG_WITHIN_S
    while True:
        try:
            lines = world.node_logs.snapshotter(nodes, since=since)
        except ReleaseError as e:
            world.log(f"the snapshotter's word is not told: {e}")
            return lines
        silent = sorted(node for node in pulled if not imagecache.of_image(lines.get(node, ()), digest))
        if not silent or time.monotonic() + LOG_PAUSE_S > end:
            return lines
        world.log(f"no line about the image yet of {', '.join(silent)}; looking again in {LOG_PAUSE_S:.0f} s")
        time.sleep(LOG_PAUSE_S)


def _last(world: World) -> tuple[Ledgers | None, str]:
    """The ledgers of the release that serves now; or None, and why there are none to compare with."""
    live = observe.live(world).release
    if not live:
        return None, "cold start: there is no earlier release to compare with."
    try:
        document = evidence.read_json(world, FILE, release=live)
        if document is None:
            return None, f"cold start: release {live} left no {FILE} to compare with."
        last = decode(Ledgers, document)
    except (Invalid, ValueError) as e:
        said = e.cause if isinstance(e, Invalid) else "it is no JSON"
        return None, f"cold start: {FILE} of release {live} cannot be compared with: {said.rstrip('.')}."
    return (last, "") if last.pods else (None, f"cold start: {FILE} of release {live} has no pod.")


def _facts(start: PodStart) -> PodFacts:
    ledger = start.ledger
    return PodFacts(
        start.pod,
        start.node,
        round(ledger.total_s, 1),
        round(ledger.attributed, 3),
        {name: round(seconds, 1) for name, seconds in ledger.seconds().items()},
        ledger.image_present,
        ledger.image_pull_s,
        ledger.notes,
    )


def _tell(world: World, starts: list[PodStart], last: Ledgers | None, facts: ColdStarted) -> None:
    columns = {p.pod: p.ledger for p in starts}
    if last:
        columns[f"release {last.release}"] = last.slowest().ledger
    for line in ledgers.table(columns):
        world.log(line)
    for pod in facts.pods:
        for note in pod.notes:
            world.log(f"{pod.pod}: {note}")
    for reason in facts.reasons:
        world.log(f"{facts.outcome} {reason}")
    world.log(
        f"cold_start={facts.outcome} compared_with={facts.compared_with or None} evidence={facts.evidence}"
    )
