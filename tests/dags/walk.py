"""Walks runs through Airflow's own scheduling, on a database of its own, and prints when each task ran.

No task is executed: one that Airflow would start gets the state that the test chose for it, after so many rounds of
the scheduler. Usage: walk.py <dags folder> <JSON document>

The document: {run: {"dag": dag id, "tasks": {task: [state, rounds]}}}; a task that it does not name succeeds in its
first round. Printed: {run: {"state": ..., "tasks": {task: [first round, last round, state]}}}; the first round is null
for a task that was never started.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Airflow reads it when it is imported.
os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{Path.cwd()}/{os.getpid()}.db"

from airflow import settings
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.dagbag import DBDagBag
from airflow.utils.db import initdb
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

ROUNDS = 60


def main(folder: str, runs: dict[str, Any]) -> dict[str, Any]:
    session = settings.Session()
    initdb(session=session)
    DagBundlesManager().sync_bundles_to_db(session=session)
    session.commit()
    bag = DagBag(folder, collect_dags=False)
    for file in sorted(Path(folder).glob("*.py")):
        bag.process_file(str(file))
    sync_bag_to_db(bag, "dags-folder", None, session=session)
    session.commit()
    return {name: _walk(session, f"run-{n}", **run) for n, (name, run) in enumerate(runs.items())}


def _walk(session: Any, run_id: str, *, dag: str, tasks: dict[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC)
    run = (
        DBDagBag()
        .get_latest_version_of_dag(dag, session=session)
        .create_dagrun(
            run_id=run_id,
            logical_date=None,
            run_after=now,
            start_date=now,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            session=session,
        )
    )
    session.commit()
    began: dict[str, int] = {}
    ended: dict[str, int] = {}
    for now in range(ROUNDS):
        session.expire_all()
        ready, _ = run.update_state(session=session)
        for ti in ready:
            ti.state = TaskInstanceState.RUNNING
            began[ti.task_id] = now
        for ti in run.get_task_instances(session=session):
            state, rounds = tasks.get(ti.task_id, ["success", 0])
            if ti.state == TaskInstanceState.RUNNING and now >= began[ti.task_id] + rounds:
                ti.state = TaskInstanceState(state)
            if ti.state in ("success", "failed", "skipped", "upstream_failed"):
                ended.setdefault(ti.task_id, now)
        session.commit()
        if run.state != DagRunState.RUNNING:
            break
    states = {ti.task_id: ti.state for ti in run.get_task_instances(session=session)}
    return {
        "state": str(run.state),
        "tasks": {t: [began.get(t), ended.get(t), str(state)] for t, state in states.items()},
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))
