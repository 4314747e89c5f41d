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
    """Ready pods of the selected release."""
    previous_replicas: int = 0
    """Pods that the previous release's Deployment wants; 0 once it is drained."""
    version: str = ""
    """resourceVersion of the Service as it was read; empty when there is none."""

    def serves(self, release: str) -> bool:
        """Nothing may be taken from a release that traffic goes to, or is recorded to go to."""
        return release in (self.release, self.selected)


@dataclass(frozen=True, slots=True)
class Plan:
    """`nothing_to_do`: the release is live already, healthy, and the one before it is drained.

    `repairs`: it is live, and something is left to do: no pod is ready, or its promotion was not finished.
    """

    release: str
    live: Live
    changes: tuple[Change, ...]
    nothing_to_do: bool = False
    repairs: bool = False

    def text(self) -> str:
        if self.nothing_to_do:
            return f"release {self.release} is already live ({self.live.ready} pods ready): nothing to do."
        width = max((len(c.act) for c in self.changes), default=0)
        lines = [f"  {c.act:<{width}}  {c.what}" + (f"  ({c.why})" if c.why else "") for c in self.changes]
        head = f"release {self.release}, live now: {self.live.release or 'nothing'}"
        if self.repairs:
            head += ": what is left of its promotion is done"
        return "\n".join([head, *lines])


def make(*, release: str, live: Live, stage: Sequence[Change], promote: Sequence[Change]) -> Plan:
    """A release that is live, selected, has a ready pod and succeeds one that is drained needs nothing at all."""
    is_live = live.release == live.selected == release
    if is_live and live.ready > 0 and live.previous_replicas == 0:
        return Plan(release, live, (), nothing_to_do=True)
    return Plan(release, live, (*stage, *promote), repairs=is_live)
