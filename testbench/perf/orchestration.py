"""What orchestration adds to a release: `python -m testbench.perf.orchestration`.

Releases fresh versions of the light engine, because there the work is short and the rest is plain to see.
Needs the bench up, with the stock triggerer, and nothing else at work on the machine. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbench import bench, config
from testbench.airflow import credentials, stack
from testbench.airflow.client import Airflow
from testbench.airflow.facts import Run, Task
from testbench.airflow.settings import PATHS, URL
from testbench.perf import resources, work
from testbench.perf.work import Interval

DAG = "release__sim"
NAMESPACE = "llm"
RUN_WITHIN_S = 600
LATE_S = 20
PARSED_EVERY_S = 12
"""A little more than the dag-processor's interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One release; seconds."""

    run: Run
    tasks: tuple[Task, ...]
    deferred: frozenset[str]
    intervals: Mapping[str, Interval]
    """Work within the run, by name."""

    @property
    def span(self) -> Interval:
        assert self.run.queued_at
        assert self.run.ended
        return self.run.queued_at.timestamp(), self.run.ended.timestamp()

    @property
    def wall(self) -> float:
        return self.span[1] - self.span[0]

    @property
    def work(self) -> float:
        return work.length(self.intervals.values())

    def own(self, task: Task) -> float:
        """Seconds of a task in which none of the release's work ran."""
        assert task.started
        assert task.ended
        span = task.started.timestamp(), task.ended.timestamp()
        return span[1] - span[0] - work.length(work.within(self.intervals.values(), span))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testbench.perf.orchestration", description=__doc__)
    parser.add_argument("--releases", type=int, default=3, help="counted ones; one more goes first")
    arguments = parser.parse_args()
    bench.up()
    stack.up(say=lambda line: print(line, file=sys.stderr))
    stack.set_tick(None)
    airflow = Airflow(url=URL, user="alice", password=credentials.password(PATHS, "alice"))
    airflow.wait_for_dag(DAG)
    stamp = f"{time.time():.0f}"
    # The first run after a start is slower: workers are forked when they are first needed.
    _release(airflow, f"perf-{stamp}-first")
    found, late = [], []
    for n in range(arguments.releases):
        found.append(_release(airflow, f"perf-{stamp}-{n}"))
        late.append(_release(airflow, f"perf-{stamp}-{n}-late", start_seconds=LATE_S))
    live = [_again(airflow, late[-1].run.conf["revision"]) for _ in range(arguments.releases)]
    _print(found, late, live, airflow)
    return 0


def _release(airflow: Airflow, revision: str, start_seconds: float = 0) -> Measured:
    """Publishes a version that nobody has released before, and releases it.

    Args:
        start_seconds: what its engine takes to load; long enough, and the wait for it is deferred.
    """
    from testbench.fakes.hf_hub.repos import publish
    from testbench.versions import publish as versions
    from testbench.versions import sim

    with tempfile.TemporaryDirectory() as scratch:
        behaviour = {**sim.BEHAVIOURS["v1"], "start_seconds": start_seconds}
        folder = sim.base(Path(scratch), revision, behaviour)
        publish(config.CACHE / "hub", versions.SIM, folder, revision, license="apache-2.0")
    observer = work.Observer(NAMESPACE)
    observer.start()
    run = _run(airflow, {"revision": revision})
    time.sleep(0.5)
    seen = observer.stop() | work.operations() | _drain(airflow, run)
    tasks = tuple(t for t in airflow.tasks(run) if t.started and t.ended)
    deferred = frozenset(t.task_id for t in tasks if "Pausing task as DEFERRED" in airflow.log(run, t))
    measured = Measured(run=run, tasks=tasks, deferred=deferred, intervals={})
    inside = {name: cut[0] for name, i in seen.items() if (cut := work.within([i], measured.span))}
    print(f"{revision}: {measured.wall:.1f} s", file=sys.stderr, flush=True)
    return Measured(run=run, tasks=tasks, deferred=deferred, intervals=inside)


def _again(airflow: Airflow, revision: str) -> float:
    return _run(airflow, {"revision": revision}).seconds


def _run(airflow: Airflow, conf: Mapping[str, str]) -> Run:
    run = airflow.wait(airflow.trigger(DAG, conf), timeout_s=RUN_WITHIN_S)
    if run.state != "success":
        raise RuntimeError(f"{DAG} {dict(conf)} is {run.state}. Next: read {airflow.run_url(run)}.")
    return run


def _drain(airflow: Airflow, run: Run) -> dict[str, Interval]:
    """The time that the service's file gives the old release to end its connections: asked for, not lost."""
    switched, drained = airflow.xcom(run, "promote.switch"), airflow.xcom(run, "promote.drain")
    if not switched or not (drained or {}).get("drained_at"):
        return {}
    return {"drain of the old release": (switched["switched_at"], drained["drained_at"])}


def _print(
    found: Sequence[Measured], late: Sequence[Measured], live: Sequence[float], airflow: Airflow
) -> None:
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    print(f"Machine: {os.cpu_count()} cores, {_memory_gib():.0f} GiB, {system}.\n")
    _rows(
        ("engine starts in s", "wall s", "Jobs, pods, operations s", "orchestration s", "tasks", "deferrals"),
        [
            (start, f"{m.wall:.1f}", f"{m.work:.1f}", f"{m.wall - m.work:.1f}", len(m.tasks), len(m.deferred))
            for start, measured in ((0, found), (LATE_S, late))
            for m in measured
        ],
    )
    own, deferred = _own(found), _own(late)
    _rows(
        ("task", "own seconds, median", f"the same, where the engine starts in {LATE_S} s"),
        [
            (t, f"{s:.2f}", f"{deferred[t]:.2f}{' deferred' if any(t in m.deferred for m in late) else ''}")
            for t, s in own.items()
        ],
    )
    _rows(("already live, trigger to end", "s"), [(n + 1, f"{s:.1f}") for n, s in enumerate(live)])
    _rows(
        ("DAG", "its file, loaded and serialized, s min / median / max"),
        [
            (d, f"{min(s):.2f} / {statistics.median(s):.2f} / {max(s):.2f}")
            for d, s in _parsed(airflow).items()
        ],
    )
    memory = resources.memory()
    _rows(
        ("memory (PSS)", "MiB"),
        [*((k, f"{v:.0f}") for k, v in memory.items()), ("all", f"{sum(memory.values()):.0f}")],
    )
    disk = resources.disk()
    _rows(
        ("disk", "GiB"), [*((k, f"{v:.1f}") for k, v in disk.items()), ("all", f"{sum(disk.values()):.1f}")]
    )


def _parsed(airflow: Airflow, times: int = 5) -> dict[str, list[float]]:
    """Several loads by the dag-processor, each by DAG."""
    seen = []
    for _ in range(times):
        time.sleep(PARSED_EVERY_S)
        seen.append(airflow.parse_seconds())
    return {dag: [s[dag] for s in seen] for dag in seen[0]}


def _own(found: Sequence[Measured]) -> dict[str, float]:
    """Median over the releases, in the order of the first one's tasks."""
    names = [t.task_id for t in found[0].tasks]
    return {
        name: statistics.median(m.own(t) for m in found for t in m.tasks if t.task_id == name)
        for name in names
    }


def _rows(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    print(f"| {' | '.join(heads)} |")
    print("|" + " --- |" * len(heads))
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


if __name__ == "__main__":
    sys.exit(main())
