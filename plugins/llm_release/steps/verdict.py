"""Brings all gates together. Only PASS goes on to promotion; everything else ends the run with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.core import verdict as core
from llm_release.core.strict import encode
from llm_release.core.verdict import LoadFacts, SmokeFacts, Value, Verdict
from llm_release.steps import evidence
from llm_release.steps.load import Load
from llm_release.steps.plan import Planned
from llm_release.steps.refused import Refused
from llm_release.steps.smoke import Smoke
from llm_release.steps.world import World

NEXT = {
    "FAIL": "read the transcript in the evidence; the live release still serves.",
    "INVALID": "the measurement is at fault, not the model: clear the gates to measure again.",
    "INCONCLUSIVE": "measure longer, or let a person decide.",
}


@dataclass(frozen=True, slots=True)
class Decided:
    STEP: ClassVar[str] = "decide.verdict"
    verdict: Value
    reasons: tuple[str, ...]
    evidence: str


def run(world: World) -> Decided:
    found = core.together(tuple(_verdicts(world)))
    facts = Decided(found.value, found.reasons, evidence.uri(world, "verdict.json"))
    evidence.keep_json(world, "verdict.json", encode(facts))
    for reason in facts.reasons:
        world.log(f"{facts.verdict} {reason}")
    if facts.verdict != "PASS":
        raise Refused(facts.verdict, facts.reasons[0], next_action=NEXT[facts.verdict], facts=facts)
    return facts


def _verdicts(world: World) -> list[Verdict]:
    found = (
        [core.smoke(SmokeFacts(s.verdict, s.passed, s.total, s.reasons))] if (s := world.maybe(Smoke)) else []
    )
    if facts := world.maybe(Load):
        measured = LoadFacts(
            facts.offered, facts.ok, facts.errors, facts.ttft_ms, facts.e2e_ms, facts.valid, facts.reasons
        )
        found.append(core.load(measured, world.spec.gates.load.slo))
    elif not world.of(Planned).repairs and (not found or found[0].value == "PASS"):
        found.append(Verdict("INCONCLUSIVE", ("load: the candidate was not loaded.",)))
    return found
