"""DAG `node_image` through the real Airflow."""

from __future__ import annotations

import time

import pytest

from testbench.airflow.client import Airflow
from testbench.airflow.facts import Run
from testbench.demo import runs
from tests.bench.conftest import Faults, writes
from tests.bench.images import Work
from tests.bench.tools import until
from tests.conftest import Bench

pytestmark = pytest.mark.timeout(300)
DAG = "node_image"


@pytest.fixture
def airflow(bench: Bench) -> Airflow:
    bench.admin.wait_for_dag(DAG)
    return bench.admin


def ended(airflow: Airflow, **conf: object) -> Run:
    return airflow.wait(airflow.trigger(DAG, conf), timeout_s=240)


def test_an_image_that_is_asked_for_is_built_and_verified_once(airflow: Airflow, work: Work) -> None:
    first = ended(airflow, images=list(work.want.images))
    assert first.state == "success", runs.failure(airflow, first)
    asked = runs.facts(airflow, first, "resolve")
    assert asked["image"] == work.want.names.image
    assert runs.facts(airflow, first, "verify_image")["image"] == asked["image"]
    assert work.left() == []
    since = time.time()
    again = ended(airflow, images=list(work.want.images))
    assert again.state == "success"
    assert runs.facts(airflow, again, "node_image")["id"] == runs.facts(airflow, first, "node_image")["id"]
    assert writes(since) == []


def test_a_run_that_is_marked_failed_leaves_no_machine_and_no_disk(
    airflow: Airflow, work: Work, google_fault: Faults
) -> None:
    google_fault(kind="vm-silent", match="llmr-build", count=1)
    run = airflow.trigger(DAG, {"images": list(work.want.images)})
    until(lambda: len(work.left()) == 2, 60)
    airflow.mark(run, "failed")
    until(lambda: {t.task_id: t.state for t in airflow.tasks(run)}.get("end") == "success", 90)
    assert work.left() == []


def test_a_form_without_images_is_refused_by_its_first_task(airflow: Airflow) -> None:
    since = time.time()
    run = ended(airflow, zone="us-central1-b")
    assert run.state == "failed"
    task = next(t for t in airflow.tasks(run) if t.task_id == "resolve")
    assert "images: at least one engine image is wanted" in airflow.log(run, task)
    assert writes(since) == []


def test_a_sweep_deletes_nothing_that_is_young_or_asked_for_and_tells_why(
    airflow: Airflow, work: Work
) -> None:
    made = ended(airflow, images=list(work.want.images))
    assert made.state == "success", runs.failure(airflow, made)
    swept = ended(airflow, sweep=True)
    assert swept.state == "success", runs.failure(airflow, swept)
    found = runs.facts(airflow, swept, "sweep")
    assert found["deleted"] == []
    assert "asked for by a person" in found["kept"][work.want.names.image]
    assert work.at.machines.image(work.want.names.image) is not None
