"""What a step raises when a gate says no: the run turns red, the release is closed, the live one was never touched."""

from __future__ import annotations

from llm_release.core.errors import Permanent
from llm_release.steps.world import StepFacts


class Refused(Permanent):
    """It carries the step's facts, so that they are recorded before the run turns red.

    Args:
        verdict: the value that refuses.
        reason: the deciding sentence.
    """

    def __init__(self, verdict: str, reason: str, *, next_action: str, facts: StepFacts) -> None:
        super().__init__(f"Refused ({verdict}): {reason}", next_action=next_action)
        self.facts = facts
