"""What of an unfinished volume was written before a kill: a hint that saves fetching, never a proof.

Every byte that the journal claims is hashed again before the volume is called complete. A record is written
after its bytes; after a crash of the node (another boot id) only records count that a data sync followed.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_release.core.exitcodes import Code, Refused
from llm_release.core.files import RemoteFile
from llm_release.core.spans import Spans
from llm_release.jobs.hydrate.writing import written

NAME = ".llm-release.journal"
DRAFT = f"{NAME}.new"
_RECORD = struct.Struct("<IIQQ")
_WROTE, _SYNCED, _RESET = 1, 2, 3
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a volume is being filled with."""

    release: str
    repo: str
    commit: str
    listing: str


class Journal:
    """The open journal of a run. Its methods may be called from any thread.

    Raises:
        Refused, Transient: from every write, when the volume takes it no more.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)

    def wrote(self, file: int, start: int, end: int) -> None:
        self._append(_WROTE, file, start, end)

    def reset(self, file: int) -> None:
        """What was said about the file no longer holds."""
        self._append(_RESET, file, 0, 0)

    def position(self) -> int:
        """Everything that was recorded so far lies before it."""
        return os.fstat(self._fd).st_size

    def synced(self, file: int, position: int) -> None:
        """The bytes of the file that were recorded before `position` are on the disk."""
        self._append(_SYNCED, file, position, 0)

    def sync(self) -> None:
        with written(self._path.parent):
            os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)

    def remove(self) -> None:
        self.close()
        self._path.unlink()

    def _append(self, kind: int, file: int, first: int, second: int) -> None:
        with written(self._path.parent):
            os.write(self._fd, _RECORD.pack(kind, file, first, second))


def start(folder: Path, identity: Identity, have: Sequence[Spans]) -> Journal:
    """Writes a new journal that says `have`, in the place of any old one."""
    head = {**_head(identity), "boot": _boot()}
    text = json.dumps(head).encode() + b"\n"
    body = b"".join(_RECORD.pack(_WROTE, i, a, b) for i, spans in enumerate(have) for a, b in spans)
    body += b"".join(_RECORD.pack(_SYNCED, i, len(text) + len(body), 0) for i in range(len(have)))
    path, fresh = folder / NAME, folder / DRAFT
    with fresh.open("wb") as file:
        file.write(text + body)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return Journal(path)


def load(folder: Path, identity: Identity, files: Sequence[RemoteFile]) -> list[Spans] | None:
    """What the journal in `folder` claims of each file; None where there is no journal.

    Raises:
        Refused: it is the journal of something else.
    """
    try:
        data = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return None
    text, _, _ = data.partition(b"\n")
    head = _parse(text)
    if {k: head.get(k) for k in _head(identity)} != _head(identity):
        raise Refused(
            Code.FOREIGN_VOLUME,
            f"{folder} is being filled with {head.get('repo')} for release {head.get('release')}.",
            next_action="give every release a volume of its own.",
        )
    return _replay(data, len(text) + 1, files, crashed=not _boot() or head.get("boot") != _boot())


def _replay(data: bytes, begin: int, files: Sequence[RemoteFile], *, crashed: bool) -> list[Spans]:
    whole = begin + (len(data) - begin) // _RECORD.size * _RECORD.size
    records = [(offset, *_RECORD.unpack_from(data, offset)) for offset in range(begin, whole, _RECORD.size)]
    durable = [0 if crashed else len(data)] * len(files)
    for _, kind, file, position, _ in records:
        if kind == _SYNCED and file < len(files):
            durable[file] = max(durable[file], position)
    have = [Spans() for _ in files]
    for offset, kind, file, begin_at, end_at in records:
        if file >= len(files):
            continue
        if kind == _RESET:
            have[file] = Spans()
        elif kind == _WROTE and offset < durable[file] and begin_at < end_at <= files[file].size:
            have[file].add(begin_at, end_at)
    return have


def _parse(text: bytes) -> dict[str, object]:
    with contextlib.suppress(ValueError):
        head = json.loads(text)
        if isinstance(head, dict):
            return head
    return {}


def _head(identity: Identity) -> dict[str, object]:
    return {
        "journal": 1,
        "release": identity.release,
        "repo": identity.repo,
        "commit": identity.commit,
        "listing": identity.listing,
    }


def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
