"""Asks the candidate fixed prompts; the Job judges the content of every answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.core.verdict import Value
from llm_release.steps import gates
from llm_release.steps.world import Wait, World


@dataclass(frozen=True, slots=True)
class Smoke:
    STEP: ClassVar[str] = "gate.smoke"
    verdict: Value
    passed: int
    total: int
    reasons: tuple[str, ...]
    evidence: str


def run(world: World) -> Smoke | Wait:
    found = gates.measure(world, "smoke", file="smoke.json", seconds=600)
    if isinstance(found, Wait):
        return found
    facts = Smoke(
        found["verdict"],
        int(found["passed"]),
        int(found["total"]),
        tuple(found["reasons"]),
        found["evidence"],
    )
    world.log(f"smoke={facts.verdict} passed={facts.passed} total={facts.total} evidence={facts.evidence}")
    for reason in facts.reasons:
        world.log(f"smoke: {reason}")
    return facts
