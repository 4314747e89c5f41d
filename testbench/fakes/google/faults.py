"""Faults on demand: what a test wants to go wrong next, matched against calls and operations.

A fault that has a count is used up; the others last until they are cleared. Nothing here is kept over a
restart. The kinds and their fields are listed in the package's docstring.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from testbench.fakes.google.errors import ApiError

API_KINDS = ("api-error", "api-slow")
OPERATION_KINDS = ("op-latency", "op-error", "op-stuck", "stockout")
MACHINE_KINDS = ("vm-silent", "vm-bare", "vm-small-disk")
KINDS = (*API_KINDS, *OPERATION_KINDS, *MACHINE_KINDS, "quota")
STOCKOUT = "ZONE_RESOURCE_POOL_EXHAUSTED"


@dataclass(slots=True, kw_only=True)
class Fault:
    """One wish. `match` is searched in "METHOD path" of a call, "type target" of an operation, a machine's name."""

    kind: str
    match: str = ""
    count: int = -1
    """How many times it still strikes; -1 for ever."""
    seconds: float = 0.0
    code: int = 503
    reason: str = "backendError"
    message: str = "The service is currently unavailable."
    metric: str = ""
    region: str = ""
    limit: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationPlan:
    """How an operation about to start will go."""

    seconds: float
    error: ApiError | None = None
    stuck: bool = False


@dataclass(slots=True)
class Faults:
    """The faults in force. Thread safe."""

    latency_s: float
    faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, wish: Mapping[str, Any]) -> None:
        """
        Raises:
            ValueError: an unknown kind or field.
        """
        try:
            fault = Fault(**wish)
            re.compile(fault.match)
        except (TypeError, re.error) as e:
            raise ValueError(str(e)) from e
        if fault.kind not in KINDS:
            raise ValueError(f"unknown kind {fault.kind!r}, one of {', '.join(KINDS)}")
        with self._lock:
            self.faults.append(fault)

    def clear(self) -> None:
        with self._lock:
            self.faults.clear()

    def listed(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(f) for f in self.faults]

    def call(self, method: str, path: str) -> tuple[float, ApiError | None]:
        """Seconds to wait before this call is answered, and the error to answer instead."""
        seconds, error = 0.0, None
        for fault in self._struck(API_KINDS, f"{method} {path}"):
            if fault.kind == "api-slow":
                seconds += fault.seconds
            else:
                error = ApiError(fault.code, fault.reason, fault.message)
        return seconds, error

    def operation(self, kind: str, target: str) -> OperationPlan:
        seconds, error, stuck = self.latency_s, None, False
        for fault in self._struck(OPERATION_KINDS, f"{kind} {target}"):
            if fault.kind == "op-latency":
                seconds = fault.seconds
            elif fault.kind == "op-stuck":
                stuck = True
            elif fault.kind == "stockout":
                zone = target.partition("/zones/")[2].partition("/")[0]
                where = f"zone '{zone}'" if zone else "location of the node pool"
                said = f"The {where} does not have enough resources available to fulfill the request."
                error = ApiError(503, STOCKOUT, said)
            else:
                error = ApiError(fault.code, fault.reason, fault.message)
        return OperationPlan(seconds=seconds, error=error, stuck=stuck)

    def struck_machine(self, name: str) -> list[Fault]:
        """What goes wrong with a machine that is about to start."""
        return self._struck(MACHINE_KINDS, name)

    def quota(self, metric: str, region: str, normal: float) -> float:
        with self._lock:
            for fault in reversed(self.faults):
                if fault.kind == "quota" and fault.metric == metric and fault.region in ("", region):
                    return fault.limit
        return normal

    def _struck(self, kinds: tuple[str, ...], subject: str) -> list[Fault]:
        with self._lock:
            struck = [f for f in self.faults if f.kind in kinds and f.count and re.search(f.match, subject)]
            for fault in struck:
                if fault.count > 0:
                    fault.count -= 1
            self.faults = [f for f in self.faults if f.count]
        return struck
