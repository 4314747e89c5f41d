"""The API's JSON, as a real 1.36 cluster gives it, becomes facts."""

from __future__ import annotations

from typing import Any

from llm_release.clients import kube_facts

META = {"name": "x", "uid": "u", "labels": {"a": "b"}, "generation": 2}


def test_a_condition_counts_only_when_its_status_is_true() -> None:
    conditions = [
        {"type": "Complete", "status": "False"},
        {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"},
    ]
    found = kube_facts.job({"metadata": META, "status": {"conditions": conditions}})
    assert (found.finished, found.reason) == ("failed", "BackoffLimitExceeded")


def test_a_job_without_a_status_is_not_finished() -> None:
    assert kube_facts.job({"metadata": META}).finished == ""


def container(**state: Any) -> dict[str, Any]:
    return {"name": "engine", "imageID": "r@sha256:1", "ready": False, "restartCount": 2, **state}


def test_a_restarting_container_keeps_the_reason_of_its_last_end() -> None:
    status = container(
        state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    )
    found = kube_facts.pod({"metadata": META, "status": {"phase": "Running", "containerStatuses": [status]}})
    assert found.containers[0].exit_reason == "OOMKilled"
    assert found.containers[0].waiting_reason == "CrashLoopBackOff"
    assert not found.ready


def test_the_schedulers_sentence_is_kept_only_while_there_is_no_node() -> None:
    unschedulable = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes",
    }
    scheduled = {"type": "PodScheduled", "status": "True"}
    of = lambda c: kube_facts.pod({"metadata": META, "spec": {}, "status": {"conditions": [c]}})  # noqa: E731 - a table
    assert of(unschedulable).unschedulable == "0/1 nodes"
    assert of(scheduled).unschedulable == ""


def test_a_deployment_past_its_deadline_says_so() -> None:
    late = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "message": "too long",
    }
    found = kube_facts.deployment(
        {"metadata": META, "spec": {"replicas": 3}, "status": {"conditions": [late]}}
    )
    assert found.deadline_exceeded == "too long"
    assert found.replicas == 3


def test_only_ready_endpoints_are_behind_a_service() -> None:
    slices = [
        {
            "endpoints": [
                {"conditions": {"ready": True}, "targetRef": {"name": "b"}},
                {"conditions": {"ready": False}, "targetRef": {"name": "a"}},
            ]
        },
        {"endpoints": [{"targetRef": {"name": "c"}}]},
        {"endpoints": None},
    ]
    assert kube_facts.endpoint_pods(slices) == ("b", "c")


def times(conditions: list[dict[str, str]], **of_container: Any) -> Any:
    statuses = [{**container(), "name": "sidecar", "restartCount": 9}, container(**of_container)]
    o = {
        "metadata": {**META, "creationTimestamp": "2026-11-21T15:07:19Z"},
        "status": {"conditions": conditions, "containerStatuses": statuses},
    }
    return kube_facts.pod_times(o, "engine")


def test_the_times_of_a_pod_are_those_of_conditions_that_hold_and_of_its_own_container() -> None:
    held = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T15:07:34Z"}
    lost = {"type": "Initialized", "status": "False", "lastTransitionTime": "2026-11-21T15:07:20Z"}
    found = times([held, lost], state={"running": {"startedAt": "2026-11-21T15:07:32Z"}})
    assert found.created == "2026-11-21T15:07:19Z"
    assert found.conditions == {"Ready": "2026-11-21T15:07:34Z"}
    assert (found.container, found.started, found.restarts) == ("engine", "2026-11-21T15:07:32Z", 2)


def test_a_container_that_waits_has_not_started_and_a_pod_may_have_no_status_at_all() -> None:
    ended = {"terminated": {"startedAt": "2026-11-21T15:07:32Z"}}
    assert times([], state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended).started == ""
    bare = kube_facts.pod_times({"metadata": {"creationTimestamp": "c"}}, "engine")
    assert (bare.created, bare.started, bare.restarts, bare.conditions) == ("c", "", 0, {})


def event(**fields: Any) -> Any:
    base = {
        "metadata": {"creationTimestamp": "made"},
        "reason": "Pulled",
        "message": "m",
        "involvedObject": {},
    }
    return kube_facts.event(base | fields)


def test_an_event_has_the_time_of_its_first_occurrence_in_either_apis_words() -> None:
    assert event(firstTimestamp="first", lastTimestamp="last", eventTime=None).at == "first"
    assert event(firstTimestamp=None, lastTimestamp=None, eventTime="micro").at == "micro"
    assert event(firstTimestamp=None).at == "made"


def test_an_event_is_about_a_container_by_its_field_path() -> None:
    assert event(involvedObject={"fieldPath": "spec.containers{engine}"}).container == "engine"
    assert event(involvedObject={"fieldPath": "spec.initContainers{fetch}"}).container == "fetch"
    assert event(involvedObject={"fieldPath": "spec.hostname"}).container == ""
    assert event().container == ""
    assert event(message=None).message == ""
