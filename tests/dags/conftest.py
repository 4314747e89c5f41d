"""Airflow in fresh processes of its own; one load of the DAG folder is shared by the tests that look at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Runs a program of this folder with Airflow's settings; -> the JSON document that it prints last."""
    home = tmp_path_factory.mktemp("airflow")
    env = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
    env |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/never-made.db",
    }

    def run(program: str, *arguments: str | dict[str, Any], release_home: Path = ROOT) -> dict[str, Any]:
        words = [a if isinstance(a, str) else json.dumps(a) for a in arguments]
        argv = [sys.executable, str(Path(__file__).with_name(program)), *words]
        own = {**env, "LLM_RELEASE_HOME": str(release_home)}
        done = subprocess.run(
            argv, env=own, cwd=home, capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    return run


@pytest.fixture(scope="session")
def probed(airflow: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """What Airflow finds in dags/ (see probe.py)."""
    return airflow("probe.py", str(ROOT / "dags"))
