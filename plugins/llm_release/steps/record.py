"""One document that explains a release: every id, time and verdict, and where the evidence lies.

Written at the end of every run that took the Lease, also of one that failed.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from llm_release.core.strict import encode
from llm_release.steps import evidence, lock, observe
from llm_release.steps.world import World


@dataclass(frozen=True, slots=True)
class Recorded:
    STEP: ClassVar[str] = "close.record"
    outcome: str
    """live, refused or failed."""
    reason: str
    uri: str


NO_REASON = "ended without a reason of its own: killed, timed out or marked failed; see the tasks' logs."


def run(world: World, *, steps: Mapping[str, Mapping[str, Any]]) -> Recorded:
    """
    Args:
        steps: by step name, what each left: "facts", "failure" and "span", each where there is one.
    """
    lock.hold(world, closing=True)
    failure = next((s["failure"] for s in steps.values() if s.get("failure")), None)
    live = observe.live(world)
    promoted = live.release == world.release.id
    outcome = (
        "live" if promoted and not failure else "refused" if failure and failure.get("refused") else "failed"
    )
    reason = str(failure["cause"]) if failure else "promoted" if promoted else NO_REASON
    document = {
        "release": encode(world.release),
        "outcome": outcome,
        "reason": reason,
        "next": failure["next"] if failure else "",
        "run": world.holder,
        "recorded_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "serving": encode(live),
        "steps": encode(dict(steps)),
    }
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    uri = evidence.keep(world, "record.json", text)
    evidence.keep(world, f"records/{_file(world.holder)}.json", text)
    world.log(f"outcome={outcome} reason={reason!r} record={uri}")
    return Recorded(outcome, reason, uri)


def _file(holder: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in holder)
