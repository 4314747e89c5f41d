"""The promotion decision, first form: smoke must pass, load must hold its bounds.

Four values: PASS, FAIL (the model's fault), INCONCLUSIVE (not enough evidence), INVALID (the measurement
is at fault, nothing is said about the model). Only PASS promotes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llm_release.core.spec import LoadSlo

Value = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
_SEVERITY: tuple[Value, ...] = ("PASS", "INCONCLUSIVE", "INVALID", "FAIL")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A value and the sentences that led to it, the deciding one first."""

    value: Value
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SmokeFacts:
    """What the smoke Job reported."""

    verdict: Value
    passed: int
    total: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadFacts:
    """What the load Job reported; latencies in milliseconds."""

    offered: int
    ok: int
    errors: Mapping[str, int]
    ttft_ms: Mapping[str, float | None]
    e2e_ms: Mapping[str, float | None]
    valid: bool
    reasons: tuple[str, ...]


def smoke(facts: SmokeFacts) -> Verdict:
    if facts.total == 0:
        return Verdict("INVALID", ("smoke: no prompt was asked.",))
    if facts.verdict == "PASS":
        return Verdict("PASS", (f"smoke: {facts.passed} of {facts.total} answers are right.",))
    failed = facts.total - facts.passed
    first = f" First: {facts.reasons[0]}" if facts.reasons else ""
    return Verdict(
        facts.verdict, (f"smoke: {failed} of {facts.total} answers are wrong.{first}", *facts.reasons[1:])
    )


def load(facts: LoadFacts, slo: LoadSlo) -> Verdict:
    """Bounds on the share of offered requests that succeeded, and on p95 latencies.

    A late client measures itself: INVALID, whatever the numbers say.
    """
    if not facts.valid:
        return Verdict(
            "INVALID", tuple(f"load: {r}" for r in facts.reasons) or ("load: the client was not fit.",)
        )
    if facts.offered == 0:
        return Verdict("INVALID", ("load: nothing was offered.",))
    success = facts.ok / facts.offered
    broken, missing = _latencies(facts, slo)
    if success < slo.success:
        worst = max(facts.errors, key=lambda k: facts.errors[k], default="none")
        broken.insert(
            0,
            f"load: {success:.2%} of {facts.offered} requests succeeded, {slo.success:.2%} wanted;"
            f" most errors: {worst}.",
        )
    if broken:
        return Verdict("FAIL", (*broken, *missing))
    if missing:
        return Verdict("INCONCLUSIVE", tuple(missing))
    return Verdict("PASS", (f"load: {success:.2%} of {facts.offered} requests succeeded within the bounds.",))


def _latencies(facts: LoadFacts, slo: LoadSlo) -> tuple[list[str], list[str]]:
    """-> what breaks its bound, what was not measured. A failed request is slower than any bound."""
    broken, missing = [], []
    for name, bound, found in (
        ("time to first token p95", slo.ttft_p95, facts.ttft_ms.get("p95")),
        ("end-to-end p95", slo.e2e_p95, facts.e2e_ms.get("p95")),
    ):
        if bound is None:
            continue
        if found is None and facts.ok < facts.offered:
            broken.append(
                f"load: {name} falls on a request that failed, at most {bound * 1000:.0f} ms wanted."
            )
        elif found is None:
            missing.append(f"load: {name} was asked for and not measured.")
        elif found > bound * 1000:
            broken.append(f"load: {name} is {found:.0f} ms, at most {bound * 1000:.0f} ms wanted.")
    return broken, missing


def together(verdicts: tuple[Verdict, ...]) -> Verdict:
    """The worst of all, its reasons first. No verdict at all is no evidence: INCONCLUSIVE."""
    if not verdicts:
        return Verdict("INCONCLUSIVE", ("no gate gave a verdict.",))
    ordered = sorted(verdicts, key=lambda v: -_SEVERITY.index(v.value))
    return Verdict(ordered[0].value, tuple(r for v in ordered for r in v.reasons))
