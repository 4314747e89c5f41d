"""What the API server tells of one pod's start, and how its errors leave the client."""

from __future__ import annotations

import pytest

from llm_release.clients import kubernetes
from llm_release.clients.kubernetes import Kubernetes
from llm_release.core.errors import Permanent, ReleaseError, Transient, Unavailable
from tests.unit.support.kube_api import KubeApi
from tests.unit.support.kube_api import api as api
from tests.unit.support.kube_api import kube as kube


def test_a_pod_that_is_not_there_has_no_times_no_events_and_no_log(kube: Kubernetes) -> None:
    assert kube.pod_times("llm", "gone", "engine") is None
    assert kube.pod_events("llm", "gone") == ()
    assert kube.start_log("llm", "gone", "engine") == ()


def test_the_events_of_one_pod_are_told_typed_and_as_sentences_oldest_first(
    api: KubeApi, kube: Kubernetes
) -> None:
    about = {"name": "p", "fieldPath": "spec.containers{engine}"}
    api.put(
        *("v1", "Event", "b"),
        reason="Pulled",
        message="pulled",
        firstTimestamp="2026-11-21T15:07:30Z",
        lastTimestamp="2026-11-21T15:09:00Z",
        involvedObject=about,
    )
    api.put(
        *("v1", "Event", "a"),
        reason="Scheduled",
        message="assigned",
        eventTime="2026-11-21T15:07:24.148986Z",
        firstTimestamp=None,
        lastTimestamp=None,
        involvedObject={"name": "p"},
    )
    api.put("v1", "Event", "other", reason="Killing", involvedObject={"name": "q"})
    assert kube.events("llm", "p") == ("Scheduled: assigned", "Pulled: pulled")
    found = {e.reason: (e.at, e.container) for e in kube.pod_events("llm", "p")}
    assert found == {
        "Pulled": ("2026-11-21T15:07:30Z", "engine"),
        "Scheduled": ("2026-11-21T15:07:24.148986Z", ""),
    }


def test_the_log_is_read_from_its_beginning_with_times_and_a_bound(api: KubeApi, kube: Kubernetes) -> None:
    api.put("v1", "Pod", "p")
    api.logs["p", "engine"] = "2026-11-21T15:07:33Z one\n2026-11-21T15:07:34Z two\n"
    assert kube.start_log("llm", "p", "engine") == ("2026-11-21T15:07:33Z one", "2026-11-21T15:07:34Z two")
    asked = api.asked[-1].query
    assert asked["timestamps"] == "True"
    assert int(asked["limitBytes"]) == kubernetes.START_LOG_BYTES
    assert "tailLines" not in asked


def test_a_container_that_waits_to_be_started_has_no_log(api: KubeApi, kube: Kubernetes) -> None:
    api.put("v1", "Pod", "p")
    assert kube.start_log("llm", "p", "engine") == ()


@pytest.mark.parametrize(
    ("status", "kind"), [(403, Permanent), (429, Transient), (500, Transient), (503, Transient)]
)
def test_a_refusal_is_ours_and_names_what_was_asked_for(
    api: KubeApi, kube: Kubernetes, status: int, kind: type[ReleaseError]
) -> None:
    api.put("v1", "Pod", "p")
    kube.pods("llm", "")  # discovery is done
    api.fault = lambda request: status
    with pytest.raises(kind, match="read Pod llm/p"):
        kube.pod_times("llm", "p", "engine")
    with pytest.raises(kind, match="read events of llm/p"):
        kube.pod_events("llm", "p")
    with pytest.raises(kind, match="read the log of pod llm/p"):
        kube.start_log("llm", "p", "engine")
    assert kube.pod_log("llm", "p") == "", "a log for a person is never worth a failure"


def test_an_api_server_that_is_gone_is_unavailable(api: KubeApi, kube: Kubernetes) -> None:
    kube.pods("llm", "")
    kube._api.configuration.host = "http://127.0.0.1:1"
    with pytest.raises(Unavailable):
        kube.start_log("llm", "p", "engine")
