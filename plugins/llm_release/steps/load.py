"""Offers the candidate an open-loop load and records what came back.

A candidate whose answers are wrong is not loaded: its throughput would mean nothing. A measurement whose client
was late is repeated once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from llm_release.steps import gates
from llm_release.steps.plan import Planned
from llm_release.steps.smoke import Smoke
from llm_release.steps.world import Skipped, Wait, World


@dataclass(frozen=True, slots=True)
class Load:
    STEP: ClassVar[str] = "gate.load"
    offered: int
    ok: int
    errors: Mapping[str, int]
    ttft_ms: Mapping[str, float | None]
    e2e_ms: Mapping[str, float | None]
    valid: bool
    reasons: tuple[str, ...]
    evidence: str


def run(world: World) -> Load | Wait:
    if world.of(Smoke).verdict != "PASS":
        raise Skipped("the smoke test did not pass: no load test.")
    if world.of(Planned).repairs:
        raise Skipped("the release serves already: it is not loaded.")
    gate = world.spec.gates.load
    seconds = gate.duration + gate.timeout
    found = gates.measure(world, "load", file="load/result.json", seconds=seconds)
    if not isinstance(found, Wait) and not found["valid"]:
        world.log(f"the client was not fit ({'; '.join(found['reasons'])}): measured once more")
        found = gates.measure(world, "load", file="load/again.json", seconds=seconds, again=True)
    if isinstance(found, Wait):
        return found
    facts = Load(
        int(found["offered"]),
        int(found["ok"]),
        found["errors"],
        found["ttft_ms"],
        found["e2e_ms"],
        bool(found["valid"]),
        tuple(found["reasons"]),
        found["evidence"],
    )
    world.log(f"offered={facts.offered} ok={facts.ok} valid={facts.valid} errors={dict(facts.errors)}")
    world.log(f"ttft_ms={dict(facts.ttft_ms)} e2e_ms={dict(facts.e2e_ms)} evidence={facts.evidence}")
    return facts
