"""The cold starts of a release's pods: the document that is kept, what it means for the gate, and a table to read.

A ledger here ends at Ready. The time to the first token is the smoke gate's to tell: it asks the first question,
through a Service, so nobody knows which of several pods answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llm_release.core import coldstart
from llm_release.core.coldstart import ColdStart
from llm_release.core.spec import ColdStartGate
from llm_release.core.verdict import Verdict

Outcome = Literal["PASS", "WARN", "FAIL"]
_SEVERITY: tuple[Outcome, ...] = ("FAIL", "WARN", "PASS")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStart:
    """One pod's ledger, and where it ran."""

    pod: str
    node: str
    ledger: ColdStart
    image: Verdict | None = None
    """Whether the node's secondary boot disk was used; None where the cluster has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledgers:
    """What is kept of a release: plain data that `strict` encodes and decodes."""

    schema: Literal["cold-start/v1"] = "cold-start/v1"
    release: str
    pods: tuple[PodStart, ...]

    def slowest(self) -> PodStart:
        """The pod that the release had to wait for. There is at least one."""
        return max(self.pods, key=lambda p: p.ledger.total_s)


@dataclass(frozen=True, slots=True)
class Judged:
    """FAIL refuses the release. `reasons` begins with the sentences that decided."""

    outcome: Outcome
    reasons: tuple[str, ...]


def judge(now: Ledgers, last: Ledgers | None, gate: ColdStartGate, *, without: str = "") -> Judged:
    """The slowest pod against the budget and against the slowest of the last promoted release; every pod's image.

    What could not be judged is a warning: a lost event is no reason to refuse a release.

    Args:
        last: None when there is nothing to compare with.
        without: why not, in a sentence.
    """
    found = sorted(_findings(now, last, gate, without), key=lambda f: _SEVERITY.index(f[0]))
    return Judged(
        found[0][0] if found else "PASS", tuple(reason for _, reasons in found for reason in reasons)
    )


def _findings(
    now: Ledgers, last: Ledgers | None, gate: ColdStartGate, without: str
) -> Iterator[tuple[Outcome, tuple[str, ...]]]:
    slowest = now.slowest().ledger
    if gate.budget is not None:
        yield _weighed(coldstart.budget(slowest, gate.budget), "fail")
    if gate.regression != "off" and last is None:
        yield "PASS", (without,) if without else ()
    elif gate.regression != "off" and last is not None:
        yield _weighed(coldstart.regression(slowest, last.slowest().ledger), gate.regression)
    for start in now.pods:
        if start.image is not None:
            told = Verdict(start.image.value, tuple(f"{start.pod}: {r}" for r in start.image.reasons))
            yield _weighed(told, gate.image_cache)


def _weighed(found: Verdict, meant: Literal["warn", "fail"]) -> tuple[Outcome, tuple[str, ...]]:
    if found.value == "PASS":
        return "PASS", found.reasons
    return ("FAIL" if found.value == "FAIL" and meant == "fail" else "WARN"), found.reasons


def table(columns: Mapping[str, ColdStart]) -> list[str]:
    """Lines of a text table: a row for each phase that some ledger has, in seconds, then total and share attributed.

    Args:
        columns: head -> ledger, left to right.
    """
    ledgers = list(columns.values())
    told = [ledger.seconds() for ledger in ledgers]
    rows = [
        (name, [f"{t[name]:.1f}" if name in t else "-" for t in told])
        for name in coldstart.ORDER
        if any(name in t for t in told)
    ]
    rows.append(("in no phase", [f"{c.unattributed_s:.1f}" for c in ledgers]))
    rows.append(("total", [f"{c.total_s:.1f}" for c in ledgers]))
    rows.append(("attributed", [f"{c.attributed:.0%}" for c in ledgers]))
    return _lined_up([("seconds", list(columns)), *rows])


def _lined_up(rows: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    first = max(len(name) for name, _ in rows)
    widths = [max(map(len, column)) for column in zip(*(cells for _, cells in rows), strict=True)]
    return [
        "  ".join([name.ljust(first), *(c.rjust(w) for c, w in zip(cells, widths, strict=True))])
        for name, cells in rows
    ]
