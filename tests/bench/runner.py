"""Runs the steps of a release against the real cluster without Airflow: the operator's loop, in a dozen lines.

What Airflow adds (tasks, triggers, teardowns) is tested in test_runs.py; here a step's behaviour is cheap to
see, and a fault can be put between any two.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from llm_release.core.clusterspec import NodeImages
from llm_release.core.errors import Permanent, ReleaseError, Transient
from llm_release.core.readiness import Readiness
from llm_release.core.request import ReleaseRequest
from llm_release.core.spec import ServiceSpec
from llm_release.core.strict import encode
from llm_release.operators.step import STEPS
from llm_release.steps import manifests
from llm_release.steps.waiting import Look
from llm_release.steps.world import Connect, Skipped, Wait, World

HOME = Path(__file__).resolve().parents[2]
CLOSING = ("close.end_machines", "close.tidy", "close.record", "close.unlock")


@dataclasses.dataclass(slots=True)
class Run:
    """One run of the pipeline; `facts` is what XCom would hold."""

    connect: Connect
    spec: ServiceSpec
    request: ReleaseRequest = ReleaseRequest()
    holder: str = "release__sim/test"
    facts: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    log: list[str] = dataclasses.field(default_factory=list)
    run_is_over: Callable[[str], bool] = lambda holder: False
    node_images: NodeImages | None = None

    def world(self, *, resumed: bool = False) -> World:
        return World(
            spec=self.spec,
            cluster=dataclasses.replace(
                manifests.cluster(HOME, self.spec.cluster), node_images=self.node_images
            ),
            connect=self.connect,
            home=HOME,
            holder=self.holder,
            request=self.request,
            facts=lambda step: self.facts.get(step, {}).get("facts"),
            log=self.log.append,
            run_is_over=self.run_is_over,
            resumed=resumed,
        )

    def step(self, name: str) -> Any:
        """Runs one step to its end, waits included.

        Raises:
            ReleaseError: as the task would fail; the reason is kept for the record.
        """
        started = time.time()
        module = importlib.import_module(f"llm_release.steps.{STEPS[name]}")
        try:
            found = self._until_done(name, module)
        except ReleaseError as e:
            refused = getattr(e, "facts", None)
            failure = {"cause": e.cause, "next": e.next_action, "refused": refused is not None}
            self.facts[name] = {"failure": failure, **({"facts": encode(refused)} if refused else {})}
            raise
        self.facts[name] = {"facts": encode(found), "span": {"started": started, "ended": time.time()}}
        return found

    def until(self, last: str) -> Any:
        """Runs every step up to and including `last`."""
        found = None
        for name in STEPS:
            if name not in self.facts:
                found = self._unless_skipped(name)
            if name == last:
                return found
        raise KeyError(last)

    def close(self, steps: Iterable[str] = CLOSING) -> None:
        for name in steps:
            self._unless_skipped(name)

    def everything(self) -> Mapping[str, Any]:
        """The whole run, as Airflow would do it. -> the record's facts."""
        try:
            for name in STEPS:
                if name not in CLOSING:
                    self._unless_skipped(name)
        except ReleaseError:
            self.close()
            raise
        self.close()
        return self.facts["close.record"]["facts"]  # type: ignore[no-any-return]

    def _unless_skipped(self, name: str) -> Any:
        try:
            return self.step(name)
        except Skipped as e:
            self.log.append(f"skipped {name}: {e}")
            return None

    def _until_done(self, name: str, module: Any) -> Any:
        waited, started = None, time.time()
        while True:
            # what the operator does with a wait that was not over (operators/step.py)
            if waited is not None and waited.final:
                raise _not_over(waited)
            world = self.world(resumed=waited is not None)
            world.began = started
            found = module.run(world, steps=self.facts) if name == "close.record" else module.run(world)
            if not isinstance(found, Wait):
                return found
            if waited is not None and waited.state == "failed":
                raise _not_over(waited)
            waited = self._over(Look(found, self.connect))

    def _over(self, look: Look) -> Any:
        while True:
            found = look.once()
            if news := look.news(found):
                self.log.append(news)
            if found.state != "waiting":
                return found
            time.sleep(0.2)


def _not_over(waited: Readiness) -> ReleaseError:
    kind = Transient if waited.again else Permanent
    return kind(waited.message, next_action=waited.next_action)
