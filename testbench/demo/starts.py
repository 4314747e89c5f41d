"""Where the time of a release's start went, read from what the pipeline left in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STEP = "roll_out.cold_start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The slowest pod of a release; seconds."""

    pod: str
    total: float
    phases: Mapping[str, float]
    """In the order of time."""
    first_token: float | None
    """From the first question of all to its first token, as the smoke gate measured it; after Ready."""

    @property
    def attributed(self) -> float:
        """Share of the total that is in a phase."""
        return sum(self.phases.values()) / self.total if self.total else 1.0


def evidence(record: Mapping[str, Any]) -> str:
    """Address of the ledgers that a release's record names; empty when it has none."""
    return str(_facts(record, STEP).get("evidence") or "")


def read(record: Mapping[str, Any], ledgers: Mapping[str, Any]) -> Start:
    """
    Args:
        record: the release's record.json.
        ledgers: its cold-start.json.
    """
    slowest = max(ledgers["pods"], key=lambda p: _length(p["ledger"]))
    first_token = _facts(record, "gate.smoke").get("first_token_s")
    return Start(
        pod=slowest["pod"],
        total=_length(slowest["ledger"]),
        phases={p["name"]: _length(p) for p in slowest["ledger"]["phases"]},
        first_token=None if first_token is None else float(first_token),
    )


def rows(starts: Mapping[str, Start]) -> list[tuple[str, ...]]:
    """A row for each phase that one of the releases has, a column for each release; heads first."""
    columns = list(starts.values())
    found: list[tuple[str, ...]] = [("phase", *starts)]
    for name in _order(columns):
        found.append((name, *(_seconds(s.phases.get(name)) for s in columns)))
    found.append(("create to Ready", *(_seconds(s.total) for s in columns)))
    found.append(("first token", *(_seconds(s.first_token) for s in columns)))
    found.append(("in a phase", *(f"{s.attributed:.0%}" for s in columns)))
    return found


def _order(columns: list[Start]) -> list[str]:
    """All names in the order of time, where a phase that only some have stands after the one that it followed."""
    order: list[str] = []
    for start in columns:
        at = 0
        for name in start.phases:
            if name not in order:
                order.insert(at, name)
            at = order.index(name) + 1
    return order


def _facts(record: Mapping[str, Any], step: str) -> Mapping[str, Any]:
    found = record.get("steps", {}).get(step, {}).get("facts")
    return found if isinstance(found, dict) else {}


def _length(span: Mapping[str, Any]) -> float:
    return float(span["ended"]) - float(span["started"])


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
