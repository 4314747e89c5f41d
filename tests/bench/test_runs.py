"""Whole runs through the real Airflow: what a person sees, and what survives a process that dies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_release.clients.kubernetes import Kubernetes
from llm_release.hooks.cluster import ClusterHook
from testbench import config
from testbench.airflow import stack
from testbench.airflow.client import Airflow, ApiError
from testbench.airflow.facts import Run
from testbench.demo import runs
from tests.bench.conftest import NAMESPACE, Faults, remove, remove_disks, writes
from tests.bench.tools import kubectl, until
from tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)
DAG = "release__sim"
SECRET = "hf_good"


@pytest.fixture(scope="module")
def airflow(bench: Bench, kube: Kubernetes) -> Iterator[Airflow]:
    """Airflow, and nothing of the service sim in the cluster before and after this module's tests."""
    remove(kube, "sim")
    bench.admin.wait_for_dag(DAG)
    yield bench.admin
    remove(kube, "sim")


@pytest.fixture
def nothing(airflow: Airflow, connect: ClusterHook, kube: Kubernetes) -> None:
    """The service and its volumes are not there: what comes next is its first release."""
    remove(kube, "sim")
    remove_disks(connect, "sim")


@pytest.fixture(scope="module")
def released(airflow: Airflow) -> Iterator[Run]:
    """v1 was released, with a token of the hub in its secret."""
    kubectl("-n", NAMESPACE, "delete", "secret", "hf-token", "--ignore-not-found")
    kubectl("-n", NAMESPACE, "create", "secret", "generic", "hf-token", f"--from-literal=token={SECRET}")
    yield release(airflow, revision="v1")
    kubectl("-n", NAMESPACE, "delete", "secret", "hf-token")


def release(airflow: Airflow, **conf: str) -> Run:
    return airflow.wait(airflow.trigger(DAG, conf), timeout_s=240)


def states(airflow: Airflow, run: Run) -> dict[str, str]:
    return {t.task_id: t.state for t in airflow.tasks(run)}


def test_a_green_run_serves(airflow: Airflow, released: Run) -> None:
    assert released.state == "success"
    assert runs.facts(airflow, released, "close.record")["outcome"] == "live"


def test_the_hub_token_appears_nowhere_but_in_its_secret(airflow: Airflow, released: Run) -> None:
    assert released.state == "success"
    seen = [airflow.log(released, t) for t in airflow.tasks(released) if t.tries]
    seen += [str(airflow.xcom(released, t.task_id)) for t in airflow.tasks(released)]
    for kind in ("pods", "jobs", "deployments", "configmaps", "services", "events"):
        seen.append(kubectl("-n", NAMESPACE, "get", kind, "-o", "yaml"))
    seen += [p.read_text(errors="replace") for p in _stored() if p.is_file()]
    assert len(seen) > 20
    assert not [text[:200] for text in seen if SECRET in text]


def test_the_same_again_ends_after_the_plan_and_writes_nothing(airflow: Airflow, released: Run) -> None:
    since = time.time()
    again = release(airflow, revision="v1")
    assert again.state == "success"
    ended = states(airflow, again)
    assert ended["open.plan"] == "success"
    assert {s for t, s in ended.items() if not t.startswith("open.")} == {"skipped"}
    assert [w for w in writes(since) if "llm-sim" in w["path"]] == []


def test_garbage_is_a_red_run_with_its_reason(airflow: Airflow, released: Run) -> None:
    bad = release(airflow, revision="garbage")
    assert bad.state == "failed"
    ended = states(airflow, bad)
    assert ended["decide.verdict"] == "failed"
    assert ended["gate.load"] == "skipped"
    assert {ended[t] for t in ("close.tidy", "close.record", "close.unlock")} == {"success"}
    step, cause = runs.failure(airflow, bad)
    assert step == "decide.verdict"
    assert cause.startswith("Refused (FAIL): smoke: 5 of 5 answers are wrong.")


def test_a_mistyped_key_fails_the_first_task_and_makes_nothing(airflow: Airflow) -> None:
    since = time.time()
    run = release(airflow, revison="v2")
    assert run.state == "failed"
    assert states(airflow, run)["open.resolve"] == "failed"
    task = next(t for t in airflow.tasks(run) if t.task_id == "open.resolve")
    assert "revison: is not a parameter of this DAG; known: image, revision" in airflow.log(run, task)
    assert [w for w in writes(since) if w["path"].endswith("/disks")] == []


def test_a_viewer_may_not_release(bench: Bench) -> None:
    with pytest.raises(ApiError) as refused:
        bench.viewer.trigger(DAG, {})
    assert refused.value.status == 403


@pytest.mark.usefixtures("nothing")
def test_a_triggerer_that_is_killed_while_a_task_waits_in_it_does_not_end_a_release(
    airflow: Airflow, kube: Kubernetes, hub_fault: Faults
) -> None:
    hub_fault(kind="stall", match="/cdn/", after_bytes=1000)
    run = airflow.trigger(DAG, {"revision": "v1"})
    _until(airflow, run, "stage.hydrate", "deferred")
    stack.restart("triggerer", kill=True)
    hub_fault.clear()
    ended = _at_its_end(airflow, run)
    assert ended.state == "success", runs.failure(airflow, ended)
    assert _made(kube) == {"PersistentVolume": 1, "Deployment": 1}


@pytest.mark.usefixtures("nothing")
def test_a_scheduler_that_is_killed_with_its_workers_does_not_end_a_release(
    airflow: Airflow, kube: Kubernetes
) -> None:
    run = airflow.trigger(DAG, {"revision": "v1"})
    _until(airflow, run, "stage.hydrate", "running", "deferred")
    stack.restart("scheduler", kill=True)
    ended = _at_its_end(airflow, run)
    assert ended.state == "success", runs.failure(airflow, ended)
    assert _made(kube) == {"PersistentVolume": 1, "Deployment": 1}


@pytest.mark.usefixtures("nothing")
def test_a_run_that_is_marked_failed_gives_the_lease_back_and_leaves_no_pods(
    airflow: Airflow, kube: Kubernetes
) -> None:
    run = airflow.trigger(DAG, {"revision": "v1"})
    _until(airflow, run, "roll_out.deploy", "running", "deferred")
    airflow.mark(run, "failed")
    until(lambda: states(airflow, run).get("close.unlock") == "success", 90)
    until(lambda: kube.pods(NAMESPACE, "llm-release/service=sim,llm-release/role=server") == (), 30)
    assert release(airflow, revision="v1").state == "success"


def _until(airflow: Airflow, run: Run, task: str, *wanted: str) -> None:
    until(lambda: states(airflow, run).get(task) in wanted, 120)


def _at_its_end(airflow: Airflow, run: Run) -> Run:
    """A run that failed because a worker died with its task goes on once a person clears that task."""
    ended = airflow.wait(run, timeout_s=300)
    if ended.state == "failed":
        airflow.clear(run, [t.task_id for t in airflow.tasks(run) if t.state == "failed"])
        ended = airflow.wait(run, timeout_s=300)
    return ended


def _made(kube: Kubernetes) -> dict[str, int]:
    """How many of each there are."""
    mine = "llm-release/service=sim"
    return {
        "PersistentVolume": len(kube.list("v1", "PersistentVolume", "", mine)),
        "Deployment": len(kube.list("apps/v1", "Deployment", NAMESPACE, mine)),
    }


def _stored() -> list[Path]:
    return list((config.BENCH / "storage").rglob("*"))
