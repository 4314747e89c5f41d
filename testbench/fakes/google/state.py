"""What the fake cloud holds, in memory and on disk: resources, operations, request ids, issued tokens.

Every change is written before it is answered (write beside, then rename), so that a killed fake comes back
with the same disks attached to the same instances. It decides nothing.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from testbench.fakes.google import errors
from testbench.fakes.google.messages import Resource


@dataclass(slots=True)
class Pending:
    """What a running operation will do when its time has come: the name of an effect and its arguments."""

    effect: str
    target: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class Held:
    """The document on disk."""

    resources: dict[str, Resource] = field(default_factory=dict)
    operations: dict[str, Resource] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    """Principal by the token's hash."""
    revoked: list[str] = field(default_factory=list)
    devices: dict[str, dict[str, str]] = field(default_factory=dict)


class State:
    """The one copy of everything; `changing()` is the only way to change it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._file = folder / "google.json"
        self._depth = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.held = self._load()

    @contextlib.contextmanager
    def changing(self) -> Iterator[Held]:
        """Holds the lock and saves at the end of the outermost block; when that raises, nothing has changed."""
        with self.lock:
            self._depth += 1
            try:
                yield self.held
            except BaseException:
                if self._depth == 1:
                    self.held = self._load()
                raise
            else:
                if self._depth == 1:
                    self._save()
            finally:
                self._depth -= 1

    def need(self, key: str) -> Resource:
        """
        Raises:
            ApiError: 404.
        """
        with self.lock:
            if key not in self.held.resources:
                raise errors.not_found(key)
            return self.held.resources[key]

    def under(self, prefix: str) -> list[tuple[str, Resource]]:
        """Resources below a collection such as projects/p/zones/z/disks."""
        with self.lock:
            return [(k, r) for k, r in self.held.resources.items() if k.startswith(prefix + "/")]

    def _save(self) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self.held)))
        draft.replace(self._file)

    def _load(self) -> Held:
        if not self._file.exists():
            return Held()
        raw = json.loads(self._file.read_text())
        raw["pending"] = {k: Pending(**v) for k, v in raw["pending"].items()}
        return Held(**raw)


def new_id() -> str:
    """Compute's ids are unsigned 64-bit numbers, written as text."""
    return str(random.randrange(10**18, 9 * 10**18))


def now() -> str:
    seconds = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{stamp}.{int(seconds * 1000) % 1000:03d}+00:00"
