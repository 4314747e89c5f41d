"""Counts what was written, by the records of those who would have been written to.

The API server's audit log, Compute's own list of accepted changes and the store's generations: a release
that claims to have written nothing is not asked.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbench.demo.look import Store

_TIMEOUT_S = 15
_MUTATING = frozenset({"create", "update", "patch", "delete", "deletecollection"})
# Questions in the form of a create: the API server answers them and keeps nothing.
_QUESTIONS = frozenset(
    {"selfsubjectaccessreviews", "selfsubjectreviews", "subjectaccessreviews", "tokenreviews"}
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment, as positions in the records."""

    audit: int
    cloud: int
    store: Mapping[str, str]


START = Mark(0, 0, {})
"""Before anything was written."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written between two moments; each with one line a kind."""

    cluster: tuple[str, ...]
    cloud: tuple[str, ...]
    store: tuple[str, ...]

    @property
    def total(self) -> int:
        return len(self.cluster) + len(self.cloud) + len(self.store)

    def __str__(self) -> str:
        parts = {"the cluster": self.cluster, "Compute": self.cloud, "the store": self.store}
        counted = ", ".join(f"{len(found)} to {where}" for where, found in parts.items())
        few = [line for found in parts.values() for line in found[:3]]
        return counted + (f" ({'; '.join(few)})" if few else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """
    Args:
        audit: the API server's audit log, one JSON event a line.
        cloud: address of the fake Google APIs, which list the changes they were asked for.
        identity: the user whose writes to the cluster count.
    """

    audit: Path
    cloud: str
    store: Store
    identity: str

    def mark(self) -> Mark:
        return Mark(_size(self.audit), len(self._asked()), self.store.generations())

    def since(self, mark: Mark) -> Written:
        """
        Raises:
            FileNotFoundError: a record is missing, so that nothing could be said.
        """
        events = (_audited(e, self.identity) for e in _lines(self.audit, mark.audit))
        now = self.store.generations()
        changed = [f"{name}" for name in now if mark.store.get(name) != now[name]]
        gone = [f"{name} removed" for name in mark.store if name not in now]
        return Written(
            tuple(e for e in events if e),
            tuple(f"{w['method']} {w['path']}" for w in self._asked()[mark.cloud :]),
            (*changed, *gone),
        )

    def _asked(self) -> list[Mapping[str, Any]]:
        with urllib.request.urlopen(f"{self.cloud}/_bench/writes", timeout=_TIMEOUT_S) as answer:
            found: list[Mapping[str, Any]] = json.load(answer)["writes"]
        return found


def _audited(event: Mapping[str, Any], identity: str) -> str:
    """One line for a change that the API server accepted from the identity, else an empty one."""
    reference = event.get("objectRef") or {}
    counts = (
        event.get("stage") == "ResponseComplete"
        and event["user"]["username"] == identity
        and event["verb"] in _MUTATING
        and reference.get("resource") not in _QUESTIONS
        and "dryRun=" not in event["requestURI"]
        and int((event.get("responseStatus") or {}).get("code", 0)) < 300
    )
    name = f"{reference.get('namespace', '')}/{reference.get('name', '')}"
    return f"{event['verb']} {reference.get('resource')} {name}" if counts else ""


def _size(file: Path) -> int:
    """A record that nobody has written to yet may not exist."""
    return file.stat().st_size if file.exists() else 0


def _lines(file: Path, start: int) -> Iterator[Mapping[str, Any]]:
    """Documents from a position on; a last line that is still being written is left out."""
    with file.open("rb") as lines:
        lines.seek(start)
        for line in lines:
            if line.endswith(b"\n"):
                yield json.loads(line)
