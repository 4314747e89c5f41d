"""Who may work on a service now. Pure decisions about a Kubernetes Lease.

The clocks of two machines are never compared: a holder is thought dead only when its run is over *and*
nobody renewed the Lease while we watched it for its whole duration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

DURATION_S = 15
"""How long a Lease is watched without a renewal before it may be taken over."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A Lease as read; `fence` grows by one with every new holder."""

    holder: str
    fence: int
    renewed: str
    version: str

    @staticmethod
    def read(body: Mapping[str, Any]) -> Lease:
        spec = body.get("spec") or {}
        return Lease(
            holder=spec.get("holderIdentity") or "",
            fence=int(spec.get("leaseTransitions") or 0),
            renewed=str(spec.get("renewTime") or ""),
            version=str(body["metadata"]["resourceVersion"]),
        )


CLOSING = "#closing"
"""Ends the holder's name once its run is being closed: a step of that run that was told to die, and is not dead
yet, then finds that the Lease is not its own any more."""


@dataclass(frozen=True, slots=True)
class Decision:
    act: Literal["take", "keep", "watch", "refuse"]
    message: str


def decide(lease: Lease | None, *, me: str, holder_is_over: bool, unchanged_for: float) -> Decision:
    """What to do about the Lease.

    Args:
        me: our holder identity, ``<dag id>/<run id>``.
        holder_is_over: whether the holder's run has ended, as Airflow knows it.
        unchanged_for: seconds since we first saw this renewal.
    """
    if lease is None or not lease.holder:
        return Decision("take", "the lease is free.")
    if lease.holder.removesuffix(CLOSING) == me:
        return Decision("keep", "the lease is ours.")
    if not holder_is_over:
        return Decision("refuse", f"{lease.holder} is working on this service.")
    if unchanged_for < DURATION_S:
        return Decision(
            "watch", f"{lease.holder} has ended without releasing the lease; watching it for {DURATION_S} s."
        )
    return Decision("take", f"taken over from {lease.holder}, whose run is over.")
