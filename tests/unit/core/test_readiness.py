"""When a wait is over, when it never will be, and the sentence for each."""

from __future__ import annotations

import dataclasses

import pytest

from llm_release.core import readiness
from llm_release.core.readiness import Container, Deployment, Job, Pod

ENGINE = Container(name="engine", image_id="r@sha256:1", ready=True, restarts=0)
READY = Pod(name="gemma-1-abc", phase="Running", ready=True, labels=(), containers=(ENGINE,), node="n1")
DONE = Deployment(
    name="gemma-1", generation=2, observed_generation=2, replicas=2, updated=2, ready=2, available=2, total=2
)


def pod(**container: object) -> Pod:
    return dataclasses.replace(
        READY,
        ready=False,
        phase="Pending",
        containers=(dataclasses.replace(ENGINE, ready=False, **container),),
    )


def judge(deployment: Deployment | None, *pods: Pod, unschedulable_for: float = 0) -> readiness.Readiness:
    return readiness.rollout(deployment, pods, unschedulable_for=unschedulable_for, patience=60)


def test_a_rollout_is_done_when_every_wanted_pod_is_available_and_no_old_one_is_left() -> None:
    assert judge(DONE, READY).state == "done"


@pytest.mark.parametrize(
    "change",
    [{"observed_generation": 1}, {"updated": 1}, {"available": 1}, {"total": 3}],
    ids=["controller behind", "not updated", "not available", "old pods left"],
)
def test_a_rollout_waits_until_then(change: dict[str, int]) -> None:
    assert judge(dataclasses.replace(DONE, **change), READY).state == "waiting"


def test_old_ready_pods_do_not_make_a_rollout_done() -> None:
    assert judge(dataclasses.replace(DONE, updated=0, available=2)).state == "waiting"


def test_a_deployment_that_is_gone_is_a_failure_with_a_next_action() -> None:
    gone = judge(None)
    assert gone.state == "failed"
    assert gone.next_action


@pytest.mark.parametrize(
    "said", ["manifest unknown", "pull access denied", "repo: not found", "401 Unauthorized"]
)
def test_an_image_that_may_not_be_pulled_ends_the_wait_at_once(said: str) -> None:
    found = judge(DONE, pod(waiting_reason="ImagePullBackOff", waiting_message=said))
    assert found.state == "failed"
    assert said in found.message


def test_a_registry_that_is_down_is_waited_for() -> None:
    down = pod(waiting_reason="ErrImagePull", waiting_message="dial tcp: connection refused")
    assert judge(dataclasses.replace(DONE, available=0), down).state == "waiting"


def test_an_engine_that_ran_out_of_memory_twice_is_told_as_such() -> None:
    found = judge(DONE, pod(restarts=2, exit_code=137, exit_reason="OOMKilled"))
    assert found.state == "failed"
    assert "ran out of memory 3 times" in found.message
    assert "engine.memory" in found.next_action


def test_one_restart_is_forgiven() -> None:
    assert judge(dataclasses.replace(DONE, available=1), pod(restarts=1, exit_code=1)).state == "waiting"


def test_a_pod_without_a_node_is_waited_for_while_an_autoscaler_may_help() -> None:
    homeless = dataclasses.replace(
        READY, ready=False, unschedulable="0/1 nodes: 1 Insufficient nvidia.com/gpu"
    )
    assert judge(dataclasses.replace(DONE, available=1), homeless, unschedulable_for=30).state == "waiting"
    late = judge(DONE, homeless, unschedulable_for=61)
    assert late.state == "failed"
    assert "Insufficient nvidia.com/gpu" in late.message
    assert "GPU" in late.next_action


JOB = Job(name="gemma-1-hydrate", uid="u", finished="")


def judge_job(job: Job | None, *pods: Pod) -> readiness.Readiness:
    return readiness.job(job, pods, unschedulable_for=0, patience=60)


def test_a_job_ends_by_its_conditions_alone() -> None:
    assert judge_job(dataclasses.replace(JOB, finished="complete"), pod(exit_code=1)).state == "done"
    assert judge_job(JOB, dataclasses.replace(READY, phase="Succeeded")).state == "waiting"


def test_a_failed_job_says_what_its_container_said() -> None:
    ended = pod(exit_code=14, exit_message='{"error": "corrupt"}')
    found = judge_job(dataclasses.replace(JOB, finished="failed", reason="PodFailurePolicy"), ended)
    assert "exit code 14" in found.message
    assert "corrupt" in found.message


def test_an_evicted_pod_is_told_as_ended_from_outside() -> None:
    evicted = dataclasses.replace(READY, phase="Failed", reason="Evicted")
    found = judge_job(dataclasses.replace(JOB, finished="failed"), evicted)
    assert "ended from outside (Evicted)" in found.message
