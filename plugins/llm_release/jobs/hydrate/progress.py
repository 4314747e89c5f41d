"""The progress line: what a person (and our trigger) reads while a hydration runs."""

from __future__ import annotations

import time

from llm_release.jobs.hydrate.board import Board
from llm_release.jobs.result import log

EVERY_S = 2.0
_MIB = 1 << 20


class Progress:
    """Prints at most one line every two seconds; the rate is that of the last ten seconds."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._last = time.monotonic()
        self._seen = [(self._last, 0)]

    def tell(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._last < EVERY_S:
            return
        self._last = now
        self._seen = [*self._seen[-5:], (now, self._board.fetched)]
        (since, before), total = self._seen[0], self._board.total
        rate = (self._board.fetched - before) / max(now - since, 1e-3)
        there, files = self._board.counts()
        eta = f"{(total - there) / rate:.0f}" if rate > 0 else "unknown"
        log(
            f"progress bytes={there} total={total} files={files}/{len(self._board.files)} "
            f"rate_mib_s={rate / _MIB:.1f} eta_s={'0' if there == total else eta}"
        )
