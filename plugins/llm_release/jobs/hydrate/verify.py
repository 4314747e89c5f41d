"""Hashes what did not come in order, close behind the connections, and judges every file when it is whole.

The bytes are read back from the volume: mostly a copy from the page cache, and the same path serves bytes that
came out of order in this run and bytes that an earlier run left.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from llm_release.core.errors import Transient
from llm_release.core.exitcodes import Code, Refused
from llm_release.jobs.hydrate.board import Board
from llm_release.jobs.hydrate.journal import Journal
from llm_release.jobs.hydrate.state import FileState
from llm_release.jobs.hydrate.volume import Volume
from llm_release.jobs.hydrate.writing import written
from llm_release.jobs.result import log

MAX_WRONG = 3
"""Wrong bytes three times are no accident of a transfer: the source is wrong."""
_CHUNK = 1 << 20


class Verifier(threading.Thread):
    """One hasher; each file has one at a time.

    Args:
        board: where work comes from.
        volume: what wrong files are taken away from.
        fds: a descriptor per file, by its index.
        journal: told when a file starts over.
        number: for the thread's name.
    """

    def __init__(
        self,
        board: Board,
        volume: Volume,
        *,
        fds: Sequence[int],
        journal: Journal,
        number: int = 0,
    ) -> None:
        super().__init__(name=f"verify-{number}", daemon=True)
        self._board = board
        self._volume = volume
        self._fds = fds
        self._journal = journal
        self._buffer = memoryview(bytearray(_CHUNK))

    def run(self) -> None:
        try:
            while (state := self._board.claim()) is not None:
                self._follow(state)
        except BaseException as e:  # whatever it is, nobody may wait for this thread any more
            self._board.fail(e)

    def _follow(self, state: FileState) -> None:
        file, fd = state.remote, self._fds[state.index]
        at = state.hashed
        while at < (ahead := self._board.ahead(state, at)) and not self._board.over:
            at = self._hash(state, fd, at=at, until=ahead)
        if at == file.size:
            self._judge(state, state.hash.hexdigest())
        else:
            self._board.release(state)

    def _hash(self, state: FileState, fd: int, *, at: int, until: int) -> int:
        file = state.remote
        while at < until:
            with written(file.path):
                count = os.preadv(fd, [self._buffer[: min(_CHUNK, until - at)]], at)
            if count == 0:
                raise Transient(
                    f"{file.path} was cut by somebody else.", next_action="look at who uses the volume."
                )
            state.hash.update(self._buffer[:count])
            at += count
        return at

    def _judge(self, state: FileState, found: str) -> None:
        file = state.remote
        if found == (file.sha256 or file.blob_id):
            self._board.verified(state)
            return
        log(f"wrong file={file.path} n={state.wrong + 1} hash={found} listed={file.identity}")
        self._volume.unmark()
        self._journal.reset(state.index)
        if state.wrong + 1 >= MAX_WRONG:
            self._volume.remove(file)
            raise Refused(
                Code.CORRUPT,
                f"{file.path} came {MAX_WRONG} times with bytes that are not those of {file.identity}.",
                next_action="look for a proxy or cache that changes them; the volume must not be sealed.",
            )
        self._volume.forget(file)
        self._board.refetch(state)
