"""One file of a hydration and how far it is, and the part of it that one connection fetches."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from llm_release.core.files import Hash, RemoteFile
from llm_release.core.spans import Span, Spans

HASH_BATCH = 4 << 20
"""Bytes that have to be there before a verifier is woken for them."""


@dataclass(slots=True)
class FileState:
    """Guarded by the board's lock."""

    index: int
    """Position in the listing."""
    remote: RemoteFile
    have: Spans
    """On the volume, fetched or resumed."""
    hash: Hash
    free: deque[Span] = field(default_factory=deque)
    """Missing, and nobody is at it."""
    active: int = 0
    """Connections at work on it."""
    hashed: int = 0
    """Bytes from the start that went through `hash`."""
    hashing: bool = False
    """Somebody has `hash` and moves `hashed`; nobody else may touch either."""
    dirty: int = 0
    """Bytes that were written and are not known to be on the disk."""
    verified: bool = False
    wrong: int = 0
    """How often its bytes were complete and not what was listed."""

    @property
    def hashable(self) -> bool:
        """Is there enough to go on with, or all of it?"""
        ahead = self.have.prefix
        return ahead - self.hashed >= HASH_BATCH or ahead == self.remote.size


@dataclass(slots=True)
class Part:
    """A range for one connection to fetch; `at` moves from `start` to `end`."""

    file: FileState
    start: int
    end: int
    at: int
