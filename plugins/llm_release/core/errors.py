"""The four kinds of failure, and nothing else.

A client decides the kind once, where the foreign error is caught; operators map it once to Airflow's
fail or retry. Every message names the cause and the one next action.
"""

from __future__ import annotations


class ReleaseError(Exception):
    """A failure that a person will read.

    Args:
        cause: one sentence: what is wrong, with the name of the thing it is wrong with.
        next_action: one sentence: what to do about it.
    """

    def __init__(self, cause: str, *, next_action: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.next_action = next_action

    def __str__(self) -> str:
        return f"{self.cause} Next: {self.next_action}"


class Permanent(ReleaseError):
    """Doing the same again gives the same: bad input, refused access, a gate that failed."""


class Transient(ReleaseError):
    """The other side was there and said "not now" (429, 5xx, an interrupted stream): worth a retry."""


class Unavailable(ReleaseError):
    """The other side could not be reached at all: worth a retry, and worth looking at the network."""


class Conflict(ReleaseError):
    """Somebody else owns or changed the thing; retrying alone never helps, the other owner is named."""
