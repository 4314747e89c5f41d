"""The ordered list of what a release would do, made before anything is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Act = Literal["create", "change", "keep", "delete"]


@dataclass(frozen=True, slots=True)
class Change:
    act: Act
    what: str
    """Kind and name."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Live:
    """The service as it serves now; empty when it does not exist yet."""

    release: str = ""
    previous: str = ""
    selected: str = ""
    """Release id in the Service's selector: must equal `release`."""
    ready: int = 0
    """Ready pods of the live release."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`nothing_to_do`: the release is live already, and healthy."""

    release: str
    live: Live
    changes: tuple[Change, ...]
    nothing_to_do: bool = False

    def text(self) -> str:
        if self.nothing_to_do:
            return f"release {self.release} is already live ({self.live.ready} pods ready): nothing to do."
        width = max((len(c.act) for c in self.changes), default=0)
        lines = [f"  {c.act:<{width}}  {c.what}" + (f"  ({c.why})" if c.why else "") for c in self.changes]
        return "\n".join([f"release {self.release}, live now: {self.live.release or 'nothing'}", *lines])


def make(*, release: str, live: Live, stage: Sequence[Change], promote: Sequence[Change]) -> Plan:
    """A release that is live, selected and has a ready pod needs nothing at all."""
    if live.release == release and live.selected == release and live.ready > 0:
        return Plan(release, live, (), nothing_to_do=True)
    return Plan(release, live, (*stage, *promote))
