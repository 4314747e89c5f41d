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
from tests.bench.conftest import NAMESPACE, remove, writes
from tests.bench.tools import kubectl, until
from tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)
DAG = "release__sim"


@pytest.fixture
def airflow(bench: Bench, connect: ClusterHook, kube: Kubernetes) -> Iterator[Airflow]:
    """Airflow with nothing of the service sim in the cluster."""
    remove(connect, kube, "sim")
    bench.admin.wait_for_dag(DAG)
    yield bench.admin
    remove(connect, kube, "sim")


def release(airflow: Airflow, **conf: str) -> Run:
    return airflow.wait(airflow.trigger(DAG, conf), timeout_s=240)


def states(airflow: Airflow, run: Run) -> dict[str, str]:
    return {t.task_id: t.state for t in airflow.tasks(run)}


def test_a_release_then_the_same_again_then_garbage(airflow: Airflow) -> None:
    first = release(airflow, revision="v1")
    assert first.state == "success"
    assert runs.facts(airflow, first, "close.record")["outcome"] == "live"

    since = time.time()
    again = release(airflow, revision="v1")
    assert again.state == "success"
    ended = states(airflow, again)
    assert ended["open.plan"] == "success"
    assert {s for t, s in ended.items() if not t.startswith("open.")} == {"skipped"}
    assert [w for w in writes(since) if "llm-sim" in w["path"]] == []

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


def test_the_hub_token_appears_nowhere_but_in_its_secret(airflow: Airflow, kube: Kubernetes) -> None:
    secret = "hf_good"
    kubectl("-n", NAMESPACE, "create", "secret", "generic", "hf-token", f"--from-literal=token={secret}")
    try:
        run = release(airflow, revision="v1")
        assert run.state == "success"
        seen = [airflow.log(run, t) for t in airflow.tasks(run) if t.tries]
        seen += [str(airflow.xcom(run, t.task_id)) for t in airflow.tasks(run)]
        for kind in ("pods", "jobs", "deployments", "configmaps", "services", "events"):
            seen.append(kubectl("-n", NAMESPACE, "get", kind, "-o", "yaml"))
        seen += [p.read_text(errors="replace") for p in _stored() if p.is_file()]
        assert len(seen) > 20
        assert not [text[:200] for text in seen if secret in text]
    finally:
        kubectl("-n", NAMESPACE, "delete", "secret", "hf-token")


@pytest.mark.parametrize("component", ["triggerer", "scheduler"])
def test_a_process_of_airflow_that_is_killed_does_not_end_a_release(
    airflow: Airflow, kube: Kubernetes, component: str
) -> None:
    run = airflow.trigger(DAG, {"revision": "v1"})
    _until_running(airflow, run, "stage.hydrate")
    stack.restart(component, kill=True)
    ended = airflow.wait(run, timeout_s=300)
    if ended.state == "failed":  # a worker died with its task: a person clears it, and the run goes on
        broken = [t.task_id for t in airflow.tasks(run) if t.state == "failed"]
        airflow.clear(run, broken)
        ended = airflow.wait(run, timeout_s=300)
    assert ended.state == "success", runs.failure(airflow, run)
    assert len(kube.list("v1", "PersistentVolume", "", "llm-release/service=sim")) == 1
    assert len(kube.list("apps/v1", "Deployment", NAMESPACE, "llm-release/service=sim")) == 1


def test_a_run_that_is_marked_failed_gives_the_lease_back_and_leaves_no_pods(
    airflow: Airflow, kube: Kubernetes
) -> None:
    run = airflow.trigger(DAG, {"revision": "v1"})
    _until_running(airflow, run, "roll_out.deploy")
    airflow.mark(run, "failed")
    until(lambda: states(airflow, run).get("close.unlock") == "success", 90)
    until(lambda: kube.pods(NAMESPACE, "llm-release/service=sim,llm-release/role=server") == (), 30)
    assert release(airflow, revision="v1").state == "success"


def _until_running(airflow: Airflow, run: Run, task: str) -> None:
    until(lambda: states(airflow, run).get(task) in ("running", "deferred", "success"), 120)


def _stored() -> list[Path]:
    return list((config.BENCH / "storage").rglob("*"))
