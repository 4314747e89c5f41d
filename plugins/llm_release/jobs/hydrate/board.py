"""Who does what in a hydration: the one place that fetchers, verifiers and the main thread share.

Knows nothing of networks or volumes. A file is cut into parts as they are taken, large ones first and small
ones at the end, so that no connection idles while another finishes; files are spread over the connections
first, because the hash of a file has to follow its bytes in order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from llm_release.core.files import RemoteFile, new_hash
from llm_release.core.spans import Spans
from llm_release.jobs.hydrate.state import FileState, Part

MIN_PART = 8 << 20
"""Bytes. Below, the round trips of the requests show (50 ms a request against 160 ms of transfer at 50 MB/s)."""
MAX_PART = 64 << 20
"""Bytes. Above, the hash of the file falls behind by more than the page cache should hold."""
MAX_DIRTY = 256 << 20
"""Bytes that may be written and not yet be on the disk. The disk sets the pace either way; without a bound the
page cache would fill the container's memory before it does."""


class Board:
    """The work of one run.

    Args:
        files: the listing, in its order.
        have: what is on the volume of each already.
        connections: how many fetchers there will be; sizes the parts.
    """

    def __init__(self, files: Sequence[RemoteFile], have: Sequence[Spans], *, connections: int) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._hashable = threading.Condition(self._lock)
        self._synced = threading.Condition(self._lock)
        self._connections = connections
        self.files = [
            FileState(i, f, h, new_hash(f)) for i, (f, h) in enumerate(zip(files, have, strict=True))
        ]
        self.total = sum(f.size for f in files)
        self.resumed = sum(h.total for h in have)
        self.fetched = 0
        self._dirty = 0
        self._unassigned = 0
        self._error: BaseException | None = None
        self._stopped = False
        for state in self.files:
            self._free_gaps(state)

    # What a fetcher does ------------------------------------------------------------------------

    def take(self) -> Part | None:
        """The next part to fetch; waits while there is none, None when the run is over."""
        with self._changed:
            while not self._over:
                waiting = [f for f in self.files if f.free]
                if waiting:
                    return self._cut(min(waiting, key=lambda f: (f.active, -f.remote.size)))
                self._changed.wait()
            return None

    def wrote(self, part: Part, data: memoryview) -> None:
        """`data`, the next bytes of the part, are on the volume.

        Where the hash of the file waits for just these, they go through it at once, while the cache of the
        processor has them; the rest is read back by the verifiers.
        """
        count = len(data)
        with self._lock:
            next_ = not part.file.hashing and part.file.hashed == part.at
            part.file.hashing |= next_
        if next_:
            part.file.hash.update(data)
        with self._lock:
            if next_:
                part.file.hashed += count
                part.file.hashing = False
            part.file.have.add(part.at, part.at + count)
            part.at += count
            self.fetched += count
            part.file.dirty += count
            self._dirty += count
            if not part.file.hashing and part.file.hashable:
                self._hashable.notify()

    @property
    def crowded(self) -> bool:
        """Too much is written that is not on the disk yet."""
        return self._dirty > MAX_DIRTY

    def wait_for_room(self) -> None:
        """Until the disk has caught up, or the run is over."""
        with self._synced:
            while self.crowded and not self._over:
                self._synced.wait()

    def leave(self, part: Part) -> None:
        """The fetcher is done with the part, at its end or before it."""
        with self._lock:
            part.file.active -= 1
            if part.at < part.end:
                part.file.free.appendleft((part.at, part.end))
                self._unassigned += part.end - part.at
                self._changed.notify_all()

    # What a verifier does -----------------------------------------------------------------------

    def claim(self) -> FileState | None:
        """A file whose bytes can go on through the hash; waits while there is none, None when over."""
        with self._hashable:
            while not self._over:
                ready = [f for f in self.files if not f.verified and not f.hashing and f.hashable]
                if ready:
                    state = max(ready, key=lambda f: f.have.prefix - f.hashed)
                    state.hashing = True
                    return state
                self._hashable.wait()
            return None

    def ahead(self, state: FileState, hashed: int) -> int:
        """Bytes from the start of the file that are on the volume without a gap; `hashed` are done with."""
        with self._lock:
            state.hashed = hashed
            return state.have.prefix

    def release(self, state: FileState) -> None:
        """The verifier leaves the file and will come back when there is more of it."""
        with self._lock:
            state.hashing = False
            if state.hashable:
                self._hashable.notify()

    def verified(self, state: FileState) -> None:
        with self._lock:
            state.verified = True
            state.hashing = False
            if self._over:
                self._wake()

    def refetch(self, state: FileState) -> None:
        """Everything of the file has to be fetched again."""
        with self._lock:
            state.wrong += 1
            state.have = Spans()
            state.hash, state.hashed = new_hash(state.remote), 0
            state.hashing = False
            self._free_gaps(state)
            self._changed.notify_all()

    # What the syncer does -----------------------------------------------------------------------

    def unsynced(self) -> list[tuple[int, int]]:
        """-> (bytes that are not on the disk yet, bytes from the start that are hashed), by index of the file."""
        with self._lock:
            return [(f.dirty, f.hashed) for f in self.files]

    def synced(self, index: int, count: int) -> None:
        """`count` of the file's unsynced bytes are on the disk now."""
        with self._lock:
            self.files[index].dirty -= count
            self._dirty -= count
            if not self.crowded:
                self._synced.notify_all()

    # What the main thread does ------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """Ends the run; the first error stands."""
        with self._lock:
            self._error = self._error or error
            self._wake()

    def stop(self) -> None:
        """Ends the run before its work is done; not an error by itself."""
        with self._lock:
            self._stopped = True
            self._wake()

    def wait(self, seconds: float) -> bool:
        """True as soon as the run is over, False after `seconds`."""
        with self._changed:
            if not self._over:
                self._changed.wait(seconds)
            return self._over

    @property
    def over(self) -> bool:
        return self._over

    @property
    def complete(self) -> bool:
        return all(f.verified for f in self.files)

    @property
    def error(self) -> BaseException | None:
        return self._error

    def counts(self) -> tuple[int, int]:
        """-> (bytes on the volume, verified files)."""
        with self._lock:
            return sum(f.have.total for f in self.files), sum(f.verified for f in self.files)

    # --------------------------------------------------------------------------------------------

    @property
    def _over(self) -> bool:
        return self._stopped or self._error is not None or self.complete

    def _wake(self) -> None:
        self._changed.notify_all()
        self._hashable.notify_all()
        self._synced.notify_all()

    def _free_gaps(self, state: FileState) -> None:
        gaps = state.have.gaps(state.remote.size)
        state.free = deque(gaps)
        self._unassigned += sum(end - start for start, end in gaps)

    def _cut(self, state: FileState) -> Part:
        wanted = max(MIN_PART, min(MAX_PART, self._unassigned // (2 * self._connections)))
        start, end = state.free.popleft()
        # No crumbs: a rest below half a part goes along.
        cut = end if end - start < wanted * 3 // 2 else start + wanted
        if cut < end:
            state.free.appendleft((cut, end))
        state.active += 1
        self._unassigned -= cut - start
        return Part(state, start, cut, start)
