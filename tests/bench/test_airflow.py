"""The bench's Airflow as people and tests rely on it: who may do what, what is refused, what survives a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbench.airflow import stack
from testbench.airflow.client import ApiError
from tests.conftest import Bench

PLATFORM = "platform__demo"


def test_every_dag_is_loaded_without_an_import_error(bench: Bench) -> None:
    bench.admin.wait_for_dag(PLATFORM)
    assert bench.admin.import_errors() == {}
    assert {PLATFORM, "release__gemma", "release__sim"} <= set(bench.admin.dag_ids())


def test_a_viewer_looks_and_does_not_trigger(bench: Bench) -> None:
    bench.admin.wait_for_dag(PLATFORM)
    assert PLATFORM in bench.viewer.dag_ids()
    with pytest.raises(ApiError) as refused:
        bench.viewer.trigger(PLATFORM)
    assert refused.value.status == 403


def test_a_param_outside_its_schema_starts_no_run(bench: Bench) -> None:
    bench.admin.wait_for_dag("release__sim")
    before = bench.admin.runs("release__sim")
    with pytest.raises(ApiError) as refused:
        bench.admin.trigger("release__sim", {"revision": "x" * 201})
    assert refused.value.status == 400
    assert bench.admin.runs("release__sim") == before


def test_a_mistyped_key_ends_the_run_in_its_first_task_with_the_known_keys(bench: Bench) -> None:
    bench.admin.wait_for_dag("release__sim")
    run = bench.admin.wait(bench.admin.trigger("release__sim", {"revison": "v1"}), timeout_s=60)
    assert run.state == "failed"
    first = next(t for t in bench.admin.tasks(run) if t.state == "failed")
    assert first.task_id == "open.resolve"
    assert first.tries == 1, "a typo must not be retried"
    log = bench.admin.log(run, first)
    assert "revison" in log
    assert "known: image, revision" in log


def test_preparing_twice_changes_nothing(bench: Bench) -> None:
    bench.admin.wait_for_dag(PLATFORM)
    for _ in range(2):
        run = bench.admin.wait(bench.admin.trigger(PLATFORM), timeout_s=90)
        assert run.state == "success"
    facts = bench.admin.xcom(run, "prepare")
    assert (facts["created"], facts["changed"]) == ([], [])
    assert facts["kept"] > 5


def test_a_killed_scheduler_leaves_no_process_and_the_next_one_works(bench: Bench) -> None:
    before = stack.pids()["airflow-scheduler"]
    assert len(before) > 1, "the scheduler has workers"
    stack.restart("scheduler", kill=True)
    assert [pid for pid in before if _runs(pid)] == []
    assert stack.status().up
    run = bench.admin.wait(bench.admin.trigger(PLATFORM), timeout_s=90)
    assert run.state == "success"


def _runs(pid: int) -> bool:
    """A dead process that its parent has not asked for yet does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
