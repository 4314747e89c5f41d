"""What goes wrong on purpose, and the record of what was asked and sent.

A fault stays until it is cleared, or until it struck `count` times. Tests count fetched bytes with the
record: a resumed download that fetches a file twice would otherwise look like one that does not.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Kind = Literal["stall", "cut", "corrupt", "status", "slow", "hang"]
_STALL_POLL_S = 0.05
_STALL_MAX_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, as posted."""

    kind: Kind
    """stall, cut: after `after_bytes` of a body. corrupt: the byte at `offset` of the file is inverted.
    status: answer `code` instead. slow: `rate` for bodies. hang: no answer at all."""
    match: str = ""
    """Searched in the path; files of the CDN are under /cdn/, those of the hub have /resolve/."""
    after_bytes: int = 0
    offset: int = 0
    code: int = 500
    retry_after: float | None = None
    rate: float = 1 << 20
    count: int | None = None

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Fault:
        """Raises: ValueError for what is no fault."""
        if raw.get("kind") not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}")
        try:
            fault = cls(**raw)
            re.compile(fault.match)
        except (TypeError, re.error) as e:
            raise ValueError(str(e)) from e
        return fault


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int | None


class Faults:
    """The faults in force. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._armed.append(_Armed(fault, fault.count))

    def clear(self) -> None:
        """Ends every fault; what stalls now is cut."""
        with self._lock:
            self._armed.clear()

    def listing(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(a.fault) | {"left": a.left} for a in self._armed]

    def strike(self, path: str, *kinds: Kind, span: tuple[int, int] | None = None) -> Fault | None:
        """The first fault of these kinds for `path`, counted as used.

        Args:
            path: of the request.
            kinds: that apply at this point of the answer.
            span: the bytes [first, end) of the file that will be sent; a corruption outside waits.
        """
        with self._lock:
            for armed in self._armed:
                fault = armed.fault
                if fault.kind not in kinds or armed.left == 0 or not re.search(fault.match, path):
                    continue
                if fault.kind == "corrupt" and span and not span[0] <= fault.offset < span[1]:
                    continue
                armed.left = None if armed.left is None else armed.left - 1
                return fault
        return None

    def stall(self, fault: Fault) -> None:
        """Returns when the fault was cleared."""
        end = time.monotonic() + _STALL_MAX_S
        while time.monotonic() < end:
            with self._lock:
                if not any(a.fault is fault for a in self._armed):
                    return
            time.sleep(_STALL_POLL_S)


@dataclass(slots=True)
class Entry:
    """One request; `bytes` grows while the body is sent."""

    origin: str
    method: str
    path: str
    query: str
    range: str | None
    token: bool
    status: int = 0
    bytes: int = 0


class Log:
    """Every request since the last reset. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        with self._lock:
            self._entries.append(entry)

    def reset(self) -> None:
        with self._lock:
            self._entries = []

    def listing(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(e) for e in self._entries]
