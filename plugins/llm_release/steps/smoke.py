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
    first_token_s: float | None = None
    """From the first question of all, which warms the engine up, to the first token of its answer: what the cold
    start of a pod (steps/cold_start.py) takes beyond Ready. None when it had no answer."""


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
        found.get("first_token_s"),
    )
    world.log(f"smoke={facts.verdict} passed={facts.passed} total={facts.total} evidence={facts.evidence}")
    world.log(f"first_token_s={facts.first_token_s}")
    for reason in facts.reasons:
        world.log(f"smoke: {reason}")
    return facts
