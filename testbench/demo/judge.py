"""What the background client's record must show. Pure: exchanges in, findings out.

The rules come from how connections behave: a selector moves new connections at once, an open connection
stays on its pod until the pod ends. So a new connection may never fail, a pooled one may be cut once, by the
drain, and when the drain is over nothing can come from the old release any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from testbench.demo.client import Exchange

NOTICED_WITHIN_S = 3.0
"""A cut is noticed when the connection is used next; each is used every 1.2 s."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim about what happened."""

    claim: str
    saw: str
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """One release taking over from another; times are Unix seconds of the same machine's clock."""

    old: str
    new: str
    switched_at: float
    drained_at: float


def handover(exchanges: Sequence[Exchange], change: Handover) -> tuple[Finding, ...]:
    """Judges a client that ran from before the switch to after the drain."""
    return (
        _evidence(exchanges, change),
        _new_connections(exchanges),
        _pool_answered(exchanges),
        _cut_once(exchanges, change),
        _before(exchanges, change),
        _after(exchanges, change),
    )


def undisturbed(exchanges: Sequence[Exchange], release: str) -> tuple[Finding, ...]:
    """Judges a client under which nothing may have happened at all."""
    failed = [e for e in exchanges if not e.ok]
    cuts = [e for e in exchanges if e.cut]
    others = [e for e in exchanges if e.ok and e.release != release]
    return (
        Finding(
            f"the client noticed nothing: no failure, no cut, every answer from {release}",
            f"{len(exchanges)} requests, {len(failed)} failed, {len(cuts)} cut, {len(others)} from others"
            + _first(failed),
            bool(exchanges) and not failed and not cuts and not others,
        ),
    )


def _evidence(exchanges: Sequence[Exchange], change: Handover) -> Finding:
    """Without requests of both kinds in all three phases the rest would hold for want of evidence."""
    phases = Counter((_phase(e, change), "pooled" if e.slot is not None else "new") for e in exchanges)
    wanted = [(phase, kind) for phase in ("before", "during", "after") for kind in ("new", "pooled")]
    saw = ", ".join(f"{phases[key]} {key[1]} {key[0]}" for key in wanted)
    return Finding(
        "the client asked before, during and after the handover, both ways",
        saw,
        all(phases[w] for w in wanted),
    )


def _phase(e: Exchange, change: Handover) -> str:
    if e.ended < change.switched_at:
        return "before"
    return "during" if e.sent <= change.drained_at else "after"


def _new_connections(exchanges: Sequence[Exchange]) -> Finding:
    own = [e for e in exchanges if e.slot is None]
    failed = [e for e in own if not e.ok]
    return Finding(
        "no request on a new connection fails",
        f"{len(failed)} of {len(own)} failed" + _first(failed),
        bool(own) and not failed,
    )


def _pool_answered(exchanges: Sequence[Exchange]) -> Finding:
    pooled = [e for e in exchanges if e.slot is not None]
    failed = [e for e in pooled if not e.ok]
    return Finding(
        "every request of the pool is answered, at the second try where its connection was cut",
        f"{len(failed)} of {len(pooled)} failed" + _first(failed),
        bool(pooled) and not failed,
    )


def _cut_once(exchanges: Sequence[Exchange], change: Handover) -> Finding:
    cuts = [e for e in exchanges if e.cut]
    a_place = Counter(e.slot for e in cuts)
    early = [e for e in cuts if e.ended < change.switched_at]
    late = [e for e in cuts if e.sent > change.drained_at + NOTICED_WITHIN_S]
    most = max(a_place.values(), default=0)
    saw = f"{len(cuts)} cuts on {len(a_place)} connections, at most {most} each"
    saw += f", {len(early)} before the switch, {len(late)} after the drain"
    kinds = Counter(e.cut for e in cuts)
    saw += f" ({', '.join(f'{n} {kind}' for kind, n in kinds.items())})" if kinds else ""
    return Finding(
        "a pooled connection is cut at most once, by the drain", saw, most <= 1 and not early and not late
    )


def _before(exchanges: Sequence[Exchange], change: Handover) -> Finding:
    early = [e for e in exchanges if e.ok and e.ended < change.switched_at]
    return Finding(
        f"before the switch every answer comes from {change.old}",
        _sources(early),
        {e.release for e in early} == {change.old},
    )


def _after(exchanges: Sequence[Exchange], change: Handover) -> Finding:
    late = [e for e in exchanges if e.ok and e.ended > change.drained_at]
    return Finding(
        f"after the drain every answer comes from {change.new}",
        _sources(late),
        {e.release for e in late} == {change.new},
    )


def _sources(exchanges: Iterable[Exchange]) -> str:
    counted = Counter(e.release for e in exchanges)
    return ", ".join(f"{n} from {release}" for release, n in counted.most_common()) or "no answer at all"


def _first(failed: Sequence[Exchange]) -> str:
    return f"; first: request {failed[0].number}, {failed[0].error}" if failed else ""
