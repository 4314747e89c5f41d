"""The cold-start ledger: where the time between a pod's creation and its first answer went.

Conditions, events and the engine's log each tell moments (milestones); a phase is the time between two that
belong together. Phases never overlap, and time that none claims stays unattributed: an engine whose log lines
changed shows up as a gap, not as a wrong phase. Kubernetes' stamps are cut to whole seconds, so a phase is
right to about a second, and one that two clocks would make negative has length zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from llm_release.core.enginelog import LISTENS, Milestones, milestones, unix
from llm_release.core.verdict import Verdict

NOISE_S = 5.0
"""Growth of a phase that is never flagged: a probe's period and two cut stamps alone make two or three."""
SKEW_S = 2.0
"""Stamps of clocks that agree contradict each other by less than this."""
MOST_OF_IT = 0.95

_CONDITIONS = {
    "PodScheduled": "scheduled",
    "PodReadyToStartContainers": "sandbox",
    "Initialized": "initialized",
    "Ready": "ready",
}
_EVENTS = {
    "FailedScheduling": "waiting",
    "TriggeredScaleUp": "waiting",
    "Scheduled": "scheduled",
    "SuccessfulAttachVolume": "attached",
    "Pulling": "pulling",
    "Pulled": "pulled",
    "Started": "started",
}
_PHASES = (
    ("schedule", ("created",), ("waiting", "scheduled")),
    ("node", ("waiting",), ("scheduled",)),
    ("volume", ("scheduled",), ("attached",)),
    ("sandbox", ("scheduled", "attached"), ("sandbox", "pulling", "pulled")),
    ("init", ("sandbox",), ("initialized",)),
    ("image", ("sandbox", "initialized", "pulling"), ("pulled",)),
    ("start", ("pulled",), ("started",)),
    ("engine", ("started",), ("up",)),
    ("engine_import", ("started",), ("engine",)),
    ("engine_setup", ("engine",), ("download", "load")),
    ("download", ("download",), ("downloaded",)),
    ("weights", ("load",), ("loaded",)),
    ("engine_init", ("loaded",), ("inited",)),
    ("serve", ("inited",), ("serving",)),
    ("ready", LISTENS, ("ready",)),
    ("first_token", ("ready",), ("first_token",)),
)
"""Name; where it may begin (the latest that is known); where it may end (the first of these that is known)."""
ORDER = tuple(n for name, _, _ in _PHASES for n in ((name, "restarts") if name == "start" else (name,)))
"""Every name that a phase may have, in the order of time."""

_PULL = re.compile(r" in ((?:[\d.]+(?:h|ms|m|s))+)")
_PART = re.compile(r"([\d.]+)(h|ms|m|s)")
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTimes:
    """What the API server tells of one pod. Times are RFC 3339 text as it came, empty where there is none."""

    container: str = "engine"
    created: str = ""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Type -> lastTransitionTime, of the conditions that are True."""
    started: str = ""
    """startedAt of the container that runs now, so of its last start."""
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event about the pod, with the time of its first occurrence."""

    reason: str
    at: str
    message: str = ""
    container: str = ""
    """From involvedObject.fieldPath; empty when it is about the whole pod."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A piece of the time, in Unix seconds; `source` told its two ends: conditions, events, words of the log."""

    name: str
    started: float
    ended: float
    source: str

    @property
    def seconds(self) -> float:
        return self.ended - self.started


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """The ledger of one pod: plain data that `strict` encodes and decodes. Its phases, where somebody told them:

    schedule: creation to PodScheduled, or to the first word that no node takes it. node: from then on until
    one does. volume: attached. sandbox: volumes mounted, network up. init: init containers. image: pulled, or
    found. start: container created and started; named restarts when starts failed before: all of those, with
    the waits between them. engine_import: process start to the engine's first own line. engine_setup:
    arguments, processes, devices. download: weights fetched by the engine. weights: loaded. engine_init: KV
    cache, compilation, CUDA graphs, warm-up. serve: HTTP server. engine: all six as one, of an engine that tells
    no more. ready: from listening to Ready, a probe's period. first_token: from Ready to the first answer.
    """

    started: float
    ended: float
    """First token, else Ready, else the last known milestone. Ready's stamp is that of its last change: of a
    pod that lost its readiness and found it again this is the later one."""
    ready: bool
    phases: tuple[Phase, ...]
    image_present: bool | None = None
    image_pull_s: float | None = None
    """The kubelet's own figure, without its wait for other pulls; None when nothing was pulled or told."""
    notes: tuple[str, ...] = ()

    @property
    def total_s(self) -> float:
        return self.ended - self.started

    @property
    def unattributed_s(self) -> float:
        return max(0.0, self.total_s - sum(p.seconds for p in self.phases))

    @property
    def attributed(self) -> float:
        """Share of the total that is in a named phase, 0 to 1."""
        return 1 - self.unattributed_s / self.total_s if self.total_s else 1.0

    def seconds(self) -> dict[str, float]:
        return {p.name: p.seconds for p in self.phases}


def ledger(
    pod: PodTimes, events: Sequence[Event], log: Iterable[str], *, first_token: float | None = None
) -> ColdStart:
    """Splits one pod's cold start.

    Args:
        events: those that are left; the API server forgets them after an hour (kube-apiserver --event-ttl).
        log: lines as `kubectl logs --timestamps` prints them, of the container that runs now.
        first_token: Unix seconds of the first answer, when somebody asked.
    """
    about = sorted((e for e in events if e.container in ("", pod.container)), key=lambda e: unix(e.at))
    known = _of_pod(pod, about)
    # Lines of a start that failed are no part of the one that is split.
    told = milestones(log, since=known["started"][0] - SKEW_S if pod.restarts and "started" in known else 0.0)
    known |= told
    if first_token is not None:
        known["first_token"] = (first_token, "first answer")
    moments = [at for at, _ in known.values()] or [0.0]
    began = known["created"][0] if "created" in known else min(moments)
    ended = next((known[m][0] for m in ("first_token", "ready") if m in known), max(moments))
    pulled = next((e.message for e in about if e.reason == "Pulled"), "")
    return ColdStart(
        started=began,
        ended=max(began, ended),
        ready="ready" in known,
        phases=tuple(_phases(known, began, ended, restarted=pod.restarts > 0)),
        image_present="already present" in pulled if pulled else None,
        image_pull_s=_pull_seconds(pulled),
        notes=tuple(_notes(pod, known, logged=bool(told))),
    )


def budget(found: ColdStart, budget_s: float) -> Verdict:
    """Is the cold start within `budget_s` seconds? One that has not ended can only have failed it already."""
    top = [p for p in sorted(found.phases, key=lambda p: -p.seconds)[:3] if p.seconds >= 1]
    said = f"cold start: {found.total_s:.0f} s, at most {budget_s:.0f} s wanted"
    if top:
        said += "; longest: " + ", ".join(f"{p.name} {p.seconds:.0f} s" for p in top)
    if found.attributed < MOST_OF_IT:
        said += f"; {found.unattributed_s:.0f} s are in no phase"
    reasons = (f"{said}.", *found.notes)
    if found.total_s > budget_s:
        return Verdict("FAIL", reasons)
    return Verdict("PASS" if found.ready else "INCONCLUSIVE", reasons)


def regression(found: ColdStart, last: ColdStart | None, *, tolerance: float = 0.2) -> Verdict:
    """Is the cold start slower than that of the last promoted release?

    Flags the total, and each phase that both ledgers have, when it grew by more than `tolerance` (a share of
    what it was) and by more than `NOISE_S`. A phase that one of them lacks may lack a lost event only; if it
    is real, the total tells.
    """
    if last is None:
        return Verdict("PASS", ("cold start: there is no earlier release to compare with.",))
    now, then = found.seconds(), last.seconds()
    if not (found.ready and last.ready) or ("first_token" in now) != ("first_token" in then):
        return Verdict("INCONCLUSIVE", ("cold start: the two ledgers do not end at the same point.",))
    pairs = [("total", found.total_s, last.total_s), *((n, now[n], then[n]) for n in now if n in then)]
    slower = [
        f"cold start: {name} took {new:.0f} s, {old:.0f} s in the last release."
        for name, new, old in pairs
        if new > old * (1 + tolerance) and new - old > NOISE_S
    ]
    if slower and last.image_present and found.image_present is False:
        slower.append("cold start: the last release found its image on the node, this one pulled it.")
    faster = f"cold start: {found.total_s:.0f} s, {last.total_s:.0f} s in the last release."
    return Verdict("FAIL" if slower else "PASS", tuple(slower) or (faster,))


def _of_pod(pod: PodTimes, events: Sequence[Event]) -> Milestones:
    """Conditions before events, which expire; of equal events the first, of attached volumes the last."""
    told = [("created", pod.created, "creationTimestamp"), ("started", pod.started, "startedAt")]
    told += [(m, pod.conditions.get(kind, ""), f"condition {kind}") for kind, m in _CONDITIONS.items()]
    told += [(_EVENTS[e.reason], e.at, f"event {e.reason}") for e in events if e.reason in _EVENTS]
    if pod.restarts:
        # The event's first occurrence is a start that failed.
        told = [t for t in told if t[2] != "event Started"]
    known: Milestones = {}
    for milestone, text, source in told:
        at = unix(text)
        if at and (milestone not in known or milestone == "attached"):
            known[milestone] = (at, source)
    # Without init containers Initialized turns true before there is a sandbox, and tells nothing.
    if known.get("initialized", (0.0, ""))[0] <= known.get("sandbox", (0.0, ""))[0]:
        known.pop("initialized", None)
    return known


def _phases(known: Milestones, began: float, ended: float, *, restarted: bool) -> Iterator[Phase]:
    at = began
    for name, begins, ends in _PHASES:
        first = max((known[m] for m in begins if m in known), default=None)
        last = next((known[m] for m in ends if m in known), None)
        if first and last:
            start = max(at, min(first[0], ended))
            at = max(start, min(last[0], ended))
            shown = "restarts" if restarted and name == "start" else name
            yield Phase(shown, start, at, f"{first[1]} -> {last[1]}")


def _notes(pod: PodTimes, known: Milestones, *, logged: bool) -> Iterator[str]:
    if pod.restarts:
        yield f"{pod.restarts} restarts: only the last start is split."
    if "ready" not in known:
        yield "the pod is not ready."
    if "started" not in known:
        return
    if "pulled" not in known:
        yield "no Pulled event (events expire after an hour): pull and start are not told apart."
    if not logged:
        yield "no line of the log was recognised: the engine's part is not split."
    if "created" in known and known["started"][0] < known["created"][0] - SKEW_S:
        yield "the container started before the pod was created: node and control plane differ in time."


def _pull_seconds(message: str) -> float | None:
    """``Successfully pulled image "x" in 1m2.5s (1m3s including waiting)`` -> 62.5."""
    found = _PULL.search(message)
    return sum(float(n) * _UNIT_S[unit] for n, unit in _PART.findall(found[1])) if found else None
