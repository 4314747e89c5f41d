"""A release is closed under none of its own tasks: by its graph, and as Airflow walks it (see walk.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLOSING = ("close.end_machines", "close.tidy", "close.record", "close.unlock")
DAG = "release__sim"
LONG = 20
"""Rounds; a failure is through the whole graph in fewer."""
SIDES = {
    "the image's build, under the hydration": {
        "stage.node_image": ["failed", 0],
        "stage.hydrate": ["success", LONG],
    },
    "the hydration, under the image's build": {
        "stage.hydrate": ["failed", 0],
        "stage.node_image": ["success", LONG],
    },
    "the hydration, under the verification": {
        "stage.hydrate": ["failed", 3],
        "stage.verify_image": ["failed", LONG],
    },
    "the nodes, under the seal": {"stage.nodes": ["failed", 0], "stage.seal": ["success", LONG]},
}
"""What fails, and the task of the other side that outlives the end of the graph."""
RUNS: dict[str, dict[str, list[Any]]] = {
    **SIDES,
    "nothing": {},
    "no disk images": {"stage.node_image": ["skipped", 0], "close.end_machines": ["skipped", 0]},
    "live already": {"open.lock": ["skipped", 0]},
    "machines that cannot be ended": {"close.end_machines": ["failed", 0]},
    "load": {"gate.load": ["failed", 0]},
}

Tasks = dict[str, dict[str, Any]]
Walked = dict[str, dict[str, Any]]


@pytest.fixture(params=sorted(f"release__{f.stem}" for f in (ROOT / "include/services").glob("*.yaml")))
def tasks(probed: dict[str, Any], request: pytest.FixtureRequest) -> Tasks:
    found: Tasks = probed["dags"][request.param]["tasks"]
    return found


@pytest.fixture(scope="module")
def walked(airflow: Callable[..., dict[str, Any]]) -> Walked:
    return airflow(
        "walk.py", str(ROOT / "dags"), {name: {"dag": DAG, "tasks": t} for name, t in RUNS.items()}
    )


def over_before(tasks: Tasks, name: str) -> set[str]:
    """Tasks that are over, whatever their ends, when this one is decided.

    A task that waits for all of its upstreams is decided after the last of them; any other may be by the first that
    failed, so only what lies before all of its upstreams is surely over.
    """
    sides = [{u} | over_before(tasks, u) for u in tasks[name]["upstream"]]
    if not sides:
        return set()
    waits = tasks[name]["trigger_rule"].startswith("all_done")
    return set.union(*sides) if waits else set.intersection(*sides)


def test_tidying_begins_after_every_task_whichever_of_them_failed(tasks: Tasks) -> None:
    assert over_before(tasks, "close.tidy") == set(tasks) - {*CLOSING, "ended"}


def test_machines_are_ended_when_no_task_builds_and_wait_for_nothing_else(tasks: Tasks) -> None:
    builds = {"stage.node_image", "stage.verify_image"}
    opened = {"open.resolve", "open.preflight", "open.plan", "open.lock"}
    assert over_before(tasks, "close.end_machines") == builds | opened | {"stage.access"}
    assert set(tasks["close.end_machines"]["upstream"]) == builds | {"open.lock"}


def test_the_record_is_written_when_all_is_ended_and_the_lease_goes_last(tasks: Tasks) -> None:
    assert set(tasks["close.record"]["upstream"]) == {"open.lock", "close.end_machines", "close.tidy"}
    assert set(tasks["close.unlock"]["upstream"]) == {"open.lock", "close.record"}


@pytest.mark.parametrize("failed", SIDES)
def test_a_side_that_still_works_is_waited_for(walked: Walked, failed: str) -> None:
    run, (slow, _) = walked[failed], max(RUNS[failed].items(), key=lambda t: t[1][1])
    ends = {name: last for name, (_, last, _) in run["tasks"].items() if not name.startswith("close.")}
    assert ends["promote.retire_nodes"] < ends[slow]
    assert run["tasks"]["close.tidy"][0] > max(last for name, last in ends.items() if name != "ended")
    assert [run["tasks"][t][2] for t in CLOSING] == ["success"] * 4
    assert run["state"] == "failed"


def test_machines_do_not_wait_for_the_hydration(walked: Walked) -> None:
    run = walked["the image's build, under the hydration"]["tasks"]
    assert run["close.end_machines"][1] < run["stage.hydrate"][1] < run["close.tidy"][0]


@pytest.mark.parametrize(
    ("name", "state", "closing"),
    [
        ("nothing", "success", "success success success success"),
        ("no disk images", "success", "skipped success success success"),
        ("live already", "success", "skipped skipped skipped skipped"),
        ("machines that cannot be ended", "failed", "failed success success success"),
        ("load", "failed", "success success success success"),
    ],
)
def test_a_run_is_closed_and_has_the_colour_of_its_work(
    walked: Walked, name: str, state: str, closing: str
) -> None:
    assert walked[name]["state"] == state
    assert " ".join(walked[name]["tasks"][t][2] for t in CLOSING) == closing
