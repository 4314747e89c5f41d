"""Loads the DAG folder as Airflow's dag-processor does and prints what it found as one JSON document.

A program of its own: Airflow reads its settings when it is first imported, and only a fresh process can tell
which modules parsing brings in. Usage: probe.py <dags folder>
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

SDKS = ("google.", "kubernetes", "kubernetes_asyncio", "huggingface_hub", "aiohttp", "grpc")


def main(folder: str) -> dict[str, Any]:
    DagBag(folder, collect_dags=False).process_file(__file__)  # what Airflow itself loads for its first file
    before = set(sys.modules)
    seconds = {}
    bag = DagBag(folder, collect_dags=False)
    for file in sorted(Path(folder).glob("*.py")):
        started = time.process_time()
        bag.process_file(str(file))
        seconds[file.name] = time.process_time() - started
    loaded = sorted(m for m in set(sys.modules) - before if m.startswith(SDKS))
    return {
        "import_errors": bag.import_errors,
        "warnings": {k: list(v) for k, v in bag.captured_warnings.items()},
        "seconds": seconds,
        "sdk_modules": loaded,
        "dags": {dag_id: _dag(dag) for dag_id, dag in bag.dags.items()},
        "stdlib_shadowed": [m for m in ("types", "selectors") if "plugins" in str(sys.modules.get(m))],
    }


def _dag(dag: Any) -> dict[str, Any]:
    return {
        "max_active_runs": dag.max_active_runs,
        "dagrun_timeout": dag.dagrun_timeout and dag.dagrun_timeout.total_seconds(),
        "catchup": dag.catchup,
        "has_docs": bool(dag.doc_md and len(dag.doc_md) > 100),
        "tags": sorted(dag.tags),
        "params": list(dag.params),
        "round_trip": _round_trip(dag),
        "typo_refused": _refused(dag),
        "tasks": {t.task_id: _task(t) for t in dag.tasks},
    }


def _task(task: Any) -> dict[str, Any]:
    return {
        "timeout": task.execution_timeout and task.execution_timeout.total_seconds(),
        "retries": task.retries,
        "teardown": task.is_teardown,
        "teardown_alone_decides": task.is_teardown and task.on_failure_fail_dagrun,
        "setups": sorted(t.task_id for t in task.get_direct_relatives(upstream=True) if t.is_setup),
        "setup": task.is_setup,
        "teardowns": sorted(t.task_id for t in task.get_flat_relatives(upstream=False) if t.is_teardown),
        "upstream": sorted(task.upstream_task_ids),
        "downstream": sorted(task.downstream_task_ids),
        "owner": task.owner,
        "trigger_rule": str(task.trigger_rule.value),
    }


def _round_trip(dag: Any) -> list[str]:
    """Task ids after the DAG went through the form in which the scheduler and the UI see it."""
    kept = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    return sorted(DagSerialization.from_dict(kept).task_ids)


def _refused(dag: Any) -> str:
    """What the first task says to a conf with a key that the form does not have."""
    first = next(t for t in dag.topological_sort() if not t.upstream_task_ids)
    context = {
        "dag": dag,
        "run_id": "probe",
        "dag_run": SimpleNamespace(conf={"revison": "v1"}),
        "ti": SimpleNamespace(xcom_push=lambda key, value: None, xcom_pull=lambda **_: None),
    }
    try:
        first.execute(context)
    except AirflowFailException as e:
        return str(e)
    except Exception:
        return "not refused: " + traceback.format_exc(limit=3)
    return "not refused"


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
