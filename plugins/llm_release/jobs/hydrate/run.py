"""One hydration from start to end: list, check, allocate, fetch and verify at once, sync, mark.

The order makes a kill at any moment harmless: the journal exists before the first file, and the marker is
written after everything else is on the disk.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llm_release.clients.hub import COMMIT, Hub
from llm_release.core.exitcodes import Code, Refused
from llm_release.core.files import RemoteFile, indexes, listing_digest, missing_shards, select
from llm_release.jobs.hydrate import journal as journals
from llm_release.jobs.hydrate.board import Board
from llm_release.jobs.hydrate.fetch import Fetcher, Policy, Shared, Source
from llm_release.jobs.hydrate.journal import Identity, Journal
from llm_release.jobs.hydrate.marker import TOOL
from llm_release.jobs.hydrate.progress import Progress
from llm_release.jobs.hydrate.sync import Syncer
from llm_release.jobs.hydrate.verify import Verifier
from llm_release.jobs.hydrate.volume import Volume
from llm_release.jobs.hydrate.writing import written
from llm_release.jobs.result import log

_RELEASE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_TICK_S = 0.25
_JOIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to bring where."""

    repo: str
    commit: str
    dest: Path
    release: str
    include: tuple[str, ...] = ()
    listing: str | None = None
    """Digest that the selected files must have; None: whatever the hub lists."""


def hydrate(request: Request, hub: Hub, policy: Policy) -> dict[str, object]:
    """Fills `request.dest` and returns the job's result.

    Raises:
        ReleaseError: see the exit codes; what was fetched stays on the volume for the next try.
    """
    started = time.monotonic()
    _check(request)
    files = _listed(request, hub)
    identity = Identity(
        release=request.release, repo=request.repo, commit=request.commit, listing=listing_digest(files)
    )
    volume = Volume(request.dest, identity, files)
    board = _fill(volume, Source(hub.http, request.repo, request.commit), policy)
    log(f"complete files={len(files)} bytes={board.total} fetched={board.fetched} resumed={board.resumed}")
    return {
        "kind": "hydrate",
        "repo": request.repo,
        "commit": request.commit,
        "release": request.release,
        "bytes": board.total,
        "fetched_bytes": board.fetched,
        "resumed_bytes": board.resumed,
        "files": len(files),
        "seconds": round(time.monotonic() - started, 3),
        "listing": identity.listing,
        "tool": TOOL,
    }


def _check(request: Request) -> None:
    if not COMMIT.fullmatch(request.commit):
        raise Refused(
            Code.BAD_INPUT,
            f"{request.commit!r} is no commit.",
            next_action="give 40 hex digits, as resolve found them.",
        )
    if not _RELEASE.fullmatch(request.release):
        raise Refused(
            Code.BAD_INPUT, f"{request.release!r} is no release id.", next_action="correct --release."
        )


def _listed(request: Request, hub: Hub) -> tuple[RemoteFile, ...]:
    files = select(hub.files(request.repo, request.commit), request.include)
    digest = listing_digest(files)
    if request.listing and digest != request.listing:
        raise Refused(
            Code.LISTING_CHANGED,
            f"{request.repo} at {request.commit[:12]} now lists {digest}, not {request.listing}.",
            next_action="trigger the release again, so that it is resolved anew; compare the two lists.",
        )
    return files


def _fill(volume: Volume, source: Source, policy: Policy) -> Board:
    have = volume.inspect()
    board = Board(volume.files, have, connections=policy.connections)
    log(f"start files={len(volume.files)} bytes={board.total} on_volume={board.resumed} dest={volume.root}")
    if board.resumed < board.total:
        volume.unmark()
    with written(volume.root):
        journal = journals.start(volume.root, volume.identity, have)
    try:
        volume.allocate()
    except Refused:
        if not board.resumed:
            journal.remove()
        raise
    with _open(volume) as fds:
        _drive(board, volume, source, fds=fds, journal=journal, policy=policy)
        _check_shards(volume)
    volume.complete(journal)
    return board


def _drive(
    board: Board, volume: Volume, source: Source, *, fds: list[int], journal: Journal, policy: Policy
) -> None:
    """Runs the threads until all files are verified and on the disk.

    Raises:
        ReleaseError: the first one of any thread, or the main thread's own (a signal).
    """
    shared = Shared()
    fetchers = [
        Fetcher(board, source, fds=fds, journal=journal, shared=shared, policy=policy, number=n)
        for n in range(policy.connections)
    ]
    verifiers = [
        Verifier(board, volume, fds=fds, journal=journal, number=n)
        for n in range(min(4, os.cpu_count() or 1))
    ]
    syncer, progress = Syncer(board, fds=fds, journal=journal), Progress(board)
    try:
        for thread in (syncer, *verifiers, *fetchers):
            thread.start()
        while not board.wait(_TICK_S):
            now = time.monotonic()
            for fetcher in fetchers:
                fetcher.watch(now)
            progress.tell()
    finally:
        board.stop()
        for fetcher in fetchers:
            fetcher.abort()
        for thread in (*fetchers, *verifiers):
            thread.join(_JOIN_S)
        syncer.finish()
    if board.error is not None:
        raise board.error
    progress.tell(force=True)


def _check_shards(volume: Volume) -> None:
    paths = [f.path for f in volume.files]
    for index in indexes(volume.files):
        with written(volume.root):
            text = volume.path(index).read_bytes()
        missing = missing_shards(index.path, text, paths)
        if missing:
            raise Refused(
                Code.INCOMPLETE_MODEL,
                f"{index.path} names {len(missing)} files that are not there: {', '.join(missing[:3])}.",
                next_action="widen model.files, or choose a complete revision.",
            )


@contextlib.contextmanager
def _open(volume: Volume) -> Iterator[list[int]]:
    fds: list[int] = []
    try:
        with written(volume.root):
            fds += (volume.open(file) for file in volume.files)
        yield fds
    finally:
        for fd in fds:
            os.close(fd)
