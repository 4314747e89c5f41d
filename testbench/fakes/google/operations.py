"""Long-running operations: a change is answered at once and happens later, and its errors come inside it.

What an operation will do is kept as data (the name of a registered effect), so that a fake that was killed
takes up its running operations again when it starts.
"""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from testbench.fakes.google.errors import ApiError
from testbench.fakes.google.faults import Faults
from testbench.fakes.google.messages import Resource
from testbench.fakes.google.state import Pending, State, new_id, now

if TYPE_CHECKING:
    from testbench.fakes.google.cloud import Cloud

Effect = Callable[["Cloud", str, Mapping[str, Any]], None]
"""Called without the lock held: (cloud, key of the resource, arguments). May raise ApiError."""

WAIT_S = 120
"""Longest answer of `wait`, as the service has it."""
KEPT = 1000
"""Finished operations that are remembered."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a finished operation does, and what takes back what was done when it was asked for."""

    do: Effect
    undo: Effect


CHANGES: dict[str, Change] = {}


def register(name: str, do: Effect, *, undo: Effect | None = None) -> None:
    CHANGES[name] = Change(do, undo or _nothing)


class Operations:
    """Starts operations, finishes them in threads of their own, and lets callers wait."""

    def __init__(self, cloud: Cloud, state: State, faults: Faults, base: str) -> None:
        self._cloud = cloud
        self._state = state
        self._faults = faults
        self._base = base
        self._finished = threading.Condition(state.lock)
        self._released = threading.Event()

    def start(
        self, kind: str, target: str, effect: str, arguments: Mapping[str, Any] | None = None, *, user: str
    ) -> Resource:
        """Records a running operation of the target's project and place, and answers it."""
        scope = _scope(target)
        name = f"operation-{int(time.time() * 1000)}-{random.randrange(16**13):013x}-{random.randrange(16**8):08x}"
        key = f"{scope}/operations/{name}"
        plan = self._faults.operation(kind, target)
        with self._state.changing() as held:
            operation: Resource = {
                "kind": "compute#operation",
                "id": new_id(),
                "name": name,
                "operationType": kind,
                "targetLink": self._base + target,
                "targetId": held.resources.get(target, {}).get("id", "0"),
                "status": "RUNNING",
                "progress": 0,
                "user": user,
                "insertTime": now(),
                "startTime": now(),
                "selfLink": self._base + key,
            }
            place = scope.split("/")[2]
            if place in ("zones", "regions"):
                operation[place[:-1]] = self._base + scope
            held.operations[key] = operation
            held.pending[key] = Pending(effect, target, dict(arguments or {}))
            _forget(held.operations)
            answer = dict(operation)
        self._later(key, plan.seconds, error=plan.error, stuck=plan.stuck)
        return answer

    def resume(self) -> None:
        """Takes up what was running when the fake was last stopped."""
        for key in list(self._state.held.pending):
            self._later(key, 0.0, error=None, stuck=False)

    def wait(self, key: str) -> Resource:
        """The operation when it is done, or as it is after two minutes."""
        end = time.monotonic() + WAIT_S
        with self._finished:
            while (left := end - time.monotonic()) > 0 and self._state.held.operations[key][
                "status"
            ] != "DONE":
                self._finished.wait(left)
            return dict(self._state.held.operations[key])

    def release(self) -> None:
        """Lets stuck operations go on."""
        self._released.set()
        self._released = threading.Event()

    def _later(self, key: str, seconds: float, *, error: ApiError | None, stuck: bool) -> None:
        released = self._released

        def run() -> None:
            time.sleep(seconds)
            if stuck:
                released.wait()
            self._finish(key, error)

        threading.Thread(target=run, daemon=True, name=key).start()

    def _finish(self, key: str, error: ApiError | None) -> None:
        pending = self._state.held.pending[key]
        try:
            if error is not None:
                raise error
            CHANGES[pending.effect].do(self._cloud, pending.target, pending.arguments)
        except ApiError as e:
            error = e
        except Exception as e:  # an operation must end, whatever its effect does
            traceback.print_exc()
            error = ApiError(500, "internalError", f"Internal error. {e}", operation_code="INTERNAL_ERROR")
        if error is not None:
            try:
                CHANGES[pending.effect].undo(self._cloud, pending.target, pending.arguments)
            except Exception:
                traceback.print_exc()
        with self._state.changing() as held:
            operation = held.operations[key]
            if error is not None:
                operation["error"] = {"errors": [{"code": error.operation_code, "message": error.message}]}
                operation["httpErrorStatusCode"] = error.code
                operation["httpErrorMessage"] = "ERROR"
            operation.update(status="DONE", progress=100, endTime=now())
            del held.pending[key]
            self._finished.notify_all()


def _scope(target: str) -> str:
    """projects/p/zones/z, projects/p/regions/r or projects/p/global."""
    parts = target.split("/")
    return "/".join(parts[:3]) if parts[2] == "global" else "/".join(parts[:4])


def _forget(operations: dict[str, Resource]) -> None:
    done = [k for k, o in operations.items() if o["status"] == "DONE"]
    for key in done[: max(0, len(done) - KEPT)]:
        del operations[key]


def _nothing(cloud: Cloud, target: str, arguments: Mapping[str, Any]) -> None:
    """The change was made when it was asked for, or there is nothing to take back."""


register("nothing", _nothing)
