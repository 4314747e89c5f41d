"""A set of byte ranges, for what is on a volume and what is missing. Pure; not for several threads at once."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator

Span = tuple[int, int]
"""Half-open: [start, end) in bytes."""


class Spans:
    """Sorted, disjoint, non-empty ranges; neighbours are merged.

    >>> have = Spans([(0, 4), (6, 8)])
    >>> have.gaps(10)
    [(4, 6), (8, 10)]
    >>> have.add(4, 6)
    >>> have.prefix
    8
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in spans:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Adds [start, end); an empty or reversed range adds nothing."""
        if start >= end:
            return
        first = bisect.bisect_left(self._ends, start)
        last = bisect.bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def gaps(self, size: int) -> list[Span]:
        """What [0, size) lacks, in order."""
        edges = [0, *self._ends]
        starts = [*self._starts, size]
        return [(a, min(b, size)) for a, b in zip(edges, starts, strict=True) if a < min(b, size)]

    @property
    def prefix(self) -> int:
        """Bytes that are there from 0 on without a gap."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    @property
    def total(self) -> int:
        return sum(self._ends) - sum(self._starts)

    def __iter__(self) -> Iterator[Span]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def __repr__(self) -> str:
        return f"Spans({list(self)})"
