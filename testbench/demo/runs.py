"""A run of a release DAG as the story needs it: told while it goes, summed up when it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from testbench.airflow.client import Airflow
from testbench.airflow.facts import Run, Task
from testbench.demo.report import GROUPS, Release, Report

RUN_WITHIN_S = 900
_TOLD = {"success": "", "failed": "FAILED", "up_for_retry": "tries again"}


def run_told(airflow: Airflow, report: Report, dag_id: str, conf: Mapping[str, str]) -> Run:
    """Triggers a run, prints a line for each task that ends, and waits for its end."""
    run = airflow.trigger(dag_id, conf)
    report.say(f"{dag_id} {dict(conf) or ''} -> {airflow.run_url(run)}")

    def tell(task: Task) -> None:
        if task.state in _TOLD:
            report.say(f"  {task.task_id:<20} {task.seconds:6.1f} s  {_TOLD[task.state]}".rstrip())

    ended = airflow.wait(run, timeout_s=RUN_WITHIN_S, every_s=0.5, on_change=tell)
    report.say(f"{dag_id} {ended.state} after {ended.seconds:.1f} s")
    return ended


def facts(airflow: Airflow, run: Run, step: str) -> Mapping[str, Any]:
    """What a step found; empty when it did not run."""
    found = airflow.xcom(run, step)
    return found if isinstance(found, dict) else {}


def failure(airflow: Airflow, run: Run) -> tuple[str, str]:
    """(step, reason) of the step that ended the run, empty strings when none did."""
    for task in airflow.tasks(run):
        found = airflow.xcom(run, task.task_id, key="failure") if task.state == "failed" else None
        if isinstance(found, dict):
            return task.task_id, str(found["cause"])
    return "", ""


BESIDE = "close.end_machines"
"""Runs as soon as nothing builds any more, long before the rest of its group."""


def phases(tasks: Sequence[Task]) -> dict[str, float]:
    """Seconds by task group: from its first start to its last end, waits and gaps included."""
    tasks = [t for t in tasks if t.task_id != BESIDE]
    spans: dict[str, float] = {}
    for group in GROUPS:
        mine = [t for t in tasks if t.group == group and t.started and t.ended and t.state != "skipped"]
        if mine:
            starts = [t.started for t in mine if t.started]
            ends = [t.ended for t in mine if t.ended]
            spans[group] = round((max(ends) - min(starts)).total_seconds(), 1)
    return spans


def summary(airflow: Airflow, run: Run, *, name: str, link: str) -> Release:
    """The run as a line of the table.

    Args:
        link: address of the release's record, empty when it has none.
    """
    release = facts(airflow, run, "open.resolve").get("release", {})
    recorded = facts(airflow, run, "close.record")
    decided = facts(airflow, run, "decide.verdict")
    nothing_to_do = bool(facts(airflow, run, "open.plan").get("nothing_to_do"))
    _, cause = failure(airflow, run)
    return Release(
        name=name,
        revision=str(release.get("revision", "")),
        commit=str(release.get("commit", "")),
        id=str(release.get("id", "")),
        run_id=run.run_id,
        state=run.state,
        outcome="already live" if nothing_to_do else str(recorded.get("outcome", run.state)),
        verdict=str(decided.get("verdict", "-")),
        reason=cause or ("nothing to do" if nothing_to_do else str(recorded.get("reason", ""))),
        seconds=round(run.seconds, 1),
        phases=phases(airflow.tasks(run)),
        page=airflow.run_url(run),
        record=link,
    )
