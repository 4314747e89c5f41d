"""The connections: each takes a part, asks for its range and writes what comes, until nothing is left.

Errors that may pass are waited out here, with a pause that grows and that obeys the other side's wish; too
many in a row without a byte in between end the run as transient. What the bytes are is not looked at here.
"""

from __future__ import annotations

import http.client
import os
import random
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from llm_release.clients.hub_errors import Busy, Expired
from llm_release.clients.hub_http import Body, HubHttp, Lines
from llm_release.clients.wire import Target, told
from llm_release.core.errors import ReleaseError, Transient, Unavailable
from llm_release.core.exitcodes import Code, Refused
from llm_release.jobs.hydrate.board import Board
from llm_release.jobs.hydrate.journal import Journal
from llm_release.jobs.hydrate.state import Part
from llm_release.jobs.hydrate.writing import written
from llm_release.jobs.result import log

CHUNK = 1 << 18
"""Bytes of one read and one write."""
_RECORD_EVERY = 1 << 20
"""Bytes between two records of the journal: what a kill costs per connection."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How patient a connection is.

    Less than one chunk (256 KiB) in `stall_s` counts as a stall, so a trickle does not keep a job alive.
    """

    connections: int = 16
    stall_s: float = 30.0
    attempts: int = 8
    """Failures in a row without a chunk in between, of one connection, that end the run."""
    pause_s: float = 0.5
    """Before the second attempt; doubles up to `longest_pause_s`."""
    longest_pause_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes are, named by commit."""

    http: HubHttp
    repo: str
    commit: str


class Shared:
    """What the connections tell each other: signed addresses, and that the other side asked for a pause."""

    def __init__(self) -> None:
        self.addresses: dict[int, Target] = {}
        """By index of the file; good until they are refused."""
        self.not_before = 0.0
        """Of time.monotonic()."""


class Fetcher(threading.Thread):
    """One connection.

    Args:
        board: where parts come from.
        source: where bytes come from.
        fds: a descriptor per file, by its index.
        journal: told what was written.
        shared: the same for all connections of a run.
        policy: see there.
        number: for the thread's name.
    """

    def __init__(
        self,
        board: Board,
        source: Source,
        *,
        fds: Sequence[int],
        journal: Journal,
        shared: Shared,
        policy: Policy,
        number: int = 0,
    ) -> None:
        super().__init__(name=f"fetch-{number}", daemon=True)
        self._board = board
        self._source = source
        self._fds = fds
        self._journal = journal
        self._shared = shared
        self._policy = policy
        self._lines = Lines(policy.stall_s)
        self._buffer = memoryview(bytearray(CHUNK))
        self._since: float | None = None
        """When the last chunk came, while one is waited for."""
        self._stalled = False
        self._fruitless = 0

    def run(self) -> None:
        try:
            with self._lines:
                while (part := self._board.take()) is not None:
                    self._work(part)
        except BaseException as e:  # whatever it is, nobody may wait for this thread any more
            self._board.fail(e)

    def watch(self, now: float) -> None:
        """Ends the connection when it brought too little for too long. For the main thread.

        Args:
            now: of time.monotonic().
        """
        since = self._since
        if since is not None and now - since > self._policy.stall_s:
            self._stalled = True
            self._lines.abort()

    def abort(self) -> None:
        """Ends the connection. For the main thread."""
        self._lines.abort()

    def _work(self, part: Part) -> None:
        failed: ReleaseError | None = None
        self._stalled = False
        self._wait(self._shared.not_before)
        try:
            self._since = time.monotonic()
            self._fetch(part)
        except (Transient, Unavailable) as e:
            failed = self._told(e, part)
            self._lines.close()
        finally:
            self._since = None
            self._board.leave(part)
        if failed and not self._board.over:
            self._recover(part, failed)

    def _fetch(self, part: Part) -> None:
        what = f"{part.file.remote.path} of {self._source.repo}"
        http_, span = self._source.http, (part.at, part.end)
        known = self._shared.addresses.get(part.file.index)
        where = known or http_.file(self._source.repo, self._source.commit, part.file.remote.path)
        body = http_.open(where, self._lines, what=what, span=span)
        _check(body.response, span, part.file.remote.size, what)
        if body.at.origin != http_.hub.origin:
            self._shared.addresses[part.file.index] = body.at
        self._copy(body, part)

    def _copy(self, body: Body, part: Part) -> None:
        recorded, file = part.at, part.file.index
        try:
            with told(body.line.origin, connected=True):
                while part.at < part.end:
                    self._chunk(body.response, part)
                    if part.at - recorded >= _RECORD_EVERY:
                        self._journal.wrote(file, recorded, part.at)
                        recorded = part.at
        finally:
            if part.at > recorded:
                self._journal.wrote(file, recorded, part.at)

    def _chunk(self, response: http.client.HTTPResponse, part: Part) -> None:
        view = self._buffer[: min(CHUNK, part.end - part.at)]
        count = response.readinto(view)
        if count == 0:
            raise Transient(
                f"{part.file.remote.path} was cut {part.end - part.at} bytes early.",
                next_action="it is tried again.",
            )
        with written(part.file.remote.path):
            done = 0
            while done < count:
                done += os.pwrite(self._fds[part.file.index], view[done:count], part.at + done)
        self._board.wrote(part, view[:count])
        if self._board.crowded:
            self._since = None
            self._board.wait_for_room()
        self._since = time.monotonic()
        if count == len(view):
            self._fruitless = 0

    def _told(self, error: ReleaseError, part: Part) -> ReleaseError:
        if not self._stalled:
            return error
        return Transient(
            f"{part.file.remote.path}: less than {CHUNK >> 10} KiB came in {self._policy.stall_s:g} s.",
            next_action="it is tried again on a new connection.",
        )

    def _recover(self, part: Part, error: ReleaseError) -> None:
        """Waits before the next try, or gives up.

        Raises:
            ReleaseError: too many in a row; `error` is the last.
        """
        self._fruitless += 1
        if isinstance(error, Expired):
            self._shared.addresses.pop(part.file.index, None)
        if self._fruitless >= self._policy.attempts:
            raise error
        grown = min(self._policy.longest_pause_s, self._policy.pause_s * 2 ** (self._fruitless - 1))
        pause = grown * random.uniform(0.5, 1.0)
        if isinstance(error, Busy) and error.after_s is not None:
            pause = max(pause, error.after_s)
            self._shared.not_before = max(self._shared.not_before, time.monotonic() + pause)
        log(f"retry n={self._fruitless} pause_s={pause:.1f} cause={error.cause}")
        self._wait(time.monotonic() + pause)

    def _wait(self, until: float) -> None:
        while not self._board.over and (left := until - time.monotonic()) > 0:
            self._board.wait(left)


def _check(response: http.client.HTTPResponse, span: tuple[int, int], size: int, what: str) -> None:
    """Is the answer the range that was asked for, of a file of the size that was listed?"""
    start, end = span
    said = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range") or "")
    total = response.length if response.status == 200 else int(said[3]) if said and said[3] != "*" else size
    if total is not None and total != size:
        raise Refused(
            Code.LISTING_CHANGED,
            f"{what} has {total} bytes; {size} were listed.",
            next_action="resolve the revision again; a commit's files must not change.",
        )
    encoded = (response.headers.get("Content-Encoding") or "identity") != "identity"
    partial = response.status == 206 and said is not None and (int(said[1]), int(said[2])) == (start, end - 1)
    whole = response.status == 200 and (start, end) == (0, size)
    if encoded or not (partial or whole) or response.length != end - start:
        raise Refused(
            Code.PROTOCOL,
            f"{what}: the answer to a request for bytes {start}-{end - 1} is not that range.",
            next_action="look for a proxy between this machine and the hub that changes requests or answers.",
        )
