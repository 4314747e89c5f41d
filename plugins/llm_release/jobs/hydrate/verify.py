"""Hashes every file in order, close behind the connections that write it, and judges it when it is whole.

The bytes are read back from the volume, not taken from the connections: that costs a copy from the page
cache, and in return one path serves bytes that came in order, out of order, or in an earlier run.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from typing import Protocol

from llm_release.core.errors import Transient
from llm_release.core.exitcodes import Code, Refused
from llm_release.core.files import RemoteFile
from llm_release.jobs.hydrate.board import Board, FileState
from llm_release.jobs.hydrate.journal import Journal
from llm_release.jobs.hydrate.volume import Volume, written
from llm_release.jobs.result import log

MAX_WRONG = 3
"""Wrong bytes three times are no accident of a transfer: the source is wrong."""
_CHUNK = 1 << 20


class Hash(Protocol):
    def update(self, data: memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class Verifier(threading.Thread):
    """One hasher; each file has one at a time.

    Args:
        board: where work comes from.
        volume: what wrong files are taken away from.
        fds: a descriptor per file, by its index.
        journal: told when a file starts over.
        hashes: by index of the file, shared by all verifiers; the board gives a file to one at a time.
        number: for the thread's name.
    """

    def __init__(
        self,
        board: Board,
        volume: Volume,
        *,
        fds: Sequence[int],
        journal: Journal,
        hashes: dict[int, Hash],
        number: int = 0,
    ) -> None:
        super().__init__(name=f"verify-{number}", daemon=True)
        self._board = board
        self._volume = volume
        self._fds = fds
        self._journal = journal
        self._hashes = hashes
        self._buffer = memoryview(bytearray(_CHUNK))

    def run(self) -> None:
        try:
            while (state := self._board.claim()) is not None:
                self._follow(state)
        except BaseException as e:  # whatever it is, nobody may wait for this thread any more
            self._board.fail(e)

    def _follow(self, state: FileState) -> None:
        file, fd = state.remote, self._fds[state.index]
        hash_ = self._hashes.setdefault(state.index, new_hash(file))
        at = state.hashed
        while at < (ahead := self._board.ahead(state, at)) and not self._board.over:
            at = self._hash(file, fd, hash_, at=at, until=ahead)
        if at == file.size:
            self._judge(state, hash_.hexdigest())
        else:
            self._board.release(state)

    def _hash(self, file: RemoteFile, fd: int, hash_: Hash, *, at: int, until: int) -> int:
        while at < until:
            with written(file.path):
                count = os.preadv(fd, [self._buffer[: min(_CHUNK, until - at)]], at)
            if count == 0:
                raise Transient(
                    f"{file.path} was cut by somebody else.", next_action="look at who uses the volume."
                )
            hash_.update(self._buffer[:count])
            at += count
        return at

    def _judge(self, state: FileState, found: str) -> None:
        file = state.remote
        del self._hashes[state.index]
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


def new_hash(file: RemoteFile) -> Hash:
    """The hash whose hex digest is the file's `sha256`, or else its `blob_id`."""
    if file.sha256:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
