"""What Airflow's side of DAG `node_image` gives to the step that deletes, and the colour of its runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
Airflow = Callable[..., dict[str, Any]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Clusters demo and far of project demo, and foreign of another."""
    folder = tmp_path / "include/clusters"
    folder.mkdir(parents=True)
    text = (ROOT / "include/clusters/demo.yaml").read_text()
    for name, project in (("demo", "demo"), ("far", "demo"), ("foreign", "another")):
        body = text.replace("cluster: demo\n", f"cluster: {name}\n", 1)
        body = body.replace("project: demo\n", f"project: {project}\n", 1)
        (folder / f"{name}.yaml").write_text(body)
    return tmp_path


def test_a_sweep_is_given_every_cluster_of_the_project_by_its_own_connection(
    airflow: Airflow, home: Path
) -> None:
    demo, far = (["demo"] * 2, ["far"] * 2)
    who = ["node_image/one", "home"]
    assert airflow("sweep.py", release_home=home) == {
        "at": demo + who,
        "sweep": True,
        "clusters": [demo + who, far + who],
        "facts": {"deleted": ["gone"], "kept": {"stays": "why"}},
    }


@pytest.mark.parametrize("broken", ["far", "foreign"])
def test_a_sweep_fails_before_its_step_when_any_clusters_file_is_wrong(
    airflow: Airflow, home: Path, broken: str
) -> None:
    """It might have been one of the project's."""
    (home / f"include/clusters/{broken}.yaml").write_text(f"cluster: {broken}\n")
    given = airflow("sweep.py", release_home=home)
    assert list(given) == ["failed"]
    assert f"include/clusters/{broken}.yaml" in given["failed"]


RUNS: dict[str, tuple[dict[str, list[Any]], str]] = {
    "built": ({"sweep": ["skipped", 0]}, "success"),
    "only swept": ({"resolve": ["skipped", 0]}, "success"),
    "refused": ({"resolve": ["failed", 0]}, "failed"),
    "not built": ({"node_image": ["failed", 0]}, "failed"),
    "not verified": ({"verify_image": ["failed", 0]}, "failed"),
    "machines left": ({"sweep": ["skipped", 0], "end": ["failed", 0]}, "failed"),
    "swept, machines left": ({"end": ["failed", 0]}, "failed"),
    "not swept": ({"sweep": ["failed", 0]}, "failed"),
    "not swept, none built": ({"resolve": ["skipped", 0], "sweep": ["failed", 0]}, "failed"),
}
"""What a task's end is, and the run's colour."""


def test_a_run_is_red_when_its_work_failed_or_something_is_left(airflow: Airflow) -> None:
    """By Airflow's own scheduling (see walk.py)."""
    walked = airflow(
        "walk.py",
        str(ROOT / "dags"),
        {name: {"dag": "node_image", "tasks": tasks} for name, (tasks, _) in RUNS.items()},
    )
    assert walked["not built"]["tasks"]["end"][2] == "success"
    assert {name: run["state"] for name, run in walked.items()} == {
        n: state for n, (_, state) in RUNS.items()
    }
