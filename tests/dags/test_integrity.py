"""What must hold for every DAG, whatever it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dags(probed: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = probed["dags"]
    assert found
    return found


def _tasks(dags: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{d}.{t}", task) for d, dag in dags.items() for t, task in dag["tasks"].items()]


def test_every_file_loads_without_errors_or_warnings(probed: dict[str, Any]) -> None:
    assert probed["import_errors"] == {}
    assert probed["warnings"] == {}


def test_one_release_dag_for_each_service_and_one_platform_dag_for_each_cluster(dags: dict[str, Any]) -> None:
    services = {f"release__{f.stem}" for f in (ROOT / "include/services").glob("*.yaml")}
    clusters = {f"platform__{f.stem}" for f in (ROOT / "include/clusters").glob("*.yaml")}
    assert services | clusters <= set(dags)


def test_parsing_brings_in_no_sdk(probed: dict[str, Any]) -> None:
    assert probed["sdk_modules"] == []


def test_parsing_costs_no_surprise_because_every_task_process_does_it_again(probed: dict[str, Any]) -> None:
    """CPU seconds, with room for a busy machine; the figure itself is measured by testbench.perf."""
    slow = {name: s for name, s in probed["seconds"].items() if s >= 0.6}
    assert slow == {}


def test_one_run_at_a_time_and_none_for_the_past(dags: dict[str, Any]) -> None:
    assert {d: (dag["max_active_runs"], dag["catchup"]) for d, dag in dags.items()} == dict.fromkeys(
        dags, (1, False)
    )


def test_a_dag_documents_itself(dags: dict[str, Any]) -> None:
    assert [d for d, dag in dags.items() if not dag["has_docs"] or "llm-release" not in dag["tags"]] == []


def test_every_task_is_bounded_and_retried(dags: dict[str, Any]) -> None:
    loose = [name for name, t in _tasks(dags) if not t["timeout"] or not t["retries"]]
    assert loose == []


def test_no_run_timeout_where_there_is_a_teardown_because_it_would_skip_it(dags: dict[str, Any]) -> None:
    unsafe = [
        d
        for d, dag in dags.items()
        if dag["dagrun_timeout"] and any(t["teardown"] for t in dag["tasks"].values())
    ]
    assert unsafe == []


def test_setups_and_teardowns_are_paired(dags: dict[str, Any]) -> None:
    lonely = [name for name, t in _tasks(dags) if t["setup"] and not t["teardowns"]]
    lonely += [name for name, t in _tasks(dags) if t["teardown"] and not t["setups"]]
    assert lonely == []


def test_a_release_gives_its_lock_back(dags: dict[str, Any]) -> None:
    for dag_id, dag in dags.items():
        if dag_id.startswith("release__"):
            assert dag["tasks"]["open.lock"]["setup"], dag_id
            assert "close.unlock" in dag["tasks"]["open.lock"]["teardowns"], dag_id


def test_a_release_is_red_when_its_work_or_its_tidying_failed(dags: dict[str, Any]) -> None:
    """A run has the colour of its last tasks, and a teardown counts as one only where nothing follows the work."""
    for dag_id, dag in dags.items():
        if dag_id.startswith("release__"):
            tasks = dag["tasks"]
            teardowns = {name for name, t in tasks.items() if t["teardown"]}
            assert [name for name, t in tasks.items() if not t["downstream"]] == ["ended"], dag_id
            assert set(tasks["ended"]["upstream"]) == {"promote.drain", "promote.retire_nodes", *teardowns}, (
                dag_id
            )
            assert not any(t["teardown_alone_decides"] for t in tasks.values()), dag_id


def test_a_sweep_alone_runs_though_nothing_is_built(dags: dict[str, Any]) -> None:
    """Airflow skips what lies between a skipped setup and its teardown, whatever the trigger rule."""
    tasks = dags["node_image"]["tasks"]
    assert tasks["resolve"]["setup"]
    assert (tasks["sweep"]["upstream"], tasks["sweep"]["downstream"]) == (["verify_image"], ["ended"])
    assert tasks["sweep"]["trigger_rule"] == "none_failed"


def test_the_scheduler_sees_the_same_tasks(dags: dict[str, Any]) -> None:
    assert {d: dag["round_trip"] for d, dag in dags.items()} == {
        d: sorted(dag["tasks"]) for d, dag in dags.items()
    }


def test_a_mistyped_conf_key_is_refused_by_the_first_task_with_the_known_ones(dags: dict[str, Any]) -> None:
    for dag_id, dag in dags.items():
        said = dag["typo_refused"]
        assert "revison" in said, f"{dag_id}: {said}"
        assert "not refused" not in said, f"{dag_id}: {said}"
        assert all(p in said for p in dag["params"]), f"{dag_id}: {said}"


def test_plugins_are_loaded_from_the_plugin_file_alone(probed: dict[str, Any]) -> None:
    ignored = (ROOT / "plugins/.airflowignore").read_text().splitlines()
    assert "llm_release/" in ignored
    assert probed["stdlib_shadowed"] == []
