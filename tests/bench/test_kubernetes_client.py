"""What our one way to the Kubernetes API promises, against the real API server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from llm_release.clients import kube_objects
from llm_release.clients.kube_objects import Ref
from llm_release.clients.kubernetes import Kubernetes
from llm_release.core.errors import Conflict, Permanent, Transient
from tests.bench.conftest import NAMESPACE
from tests.bench.tools import kubectl


@pytest.fixture
def ref(kube: Kubernetes, service: str) -> Iterator[Ref]:
    """A ConfigMap of this test's own."""
    mine = Ref("v1", "ConfigMap", service, NAMESPACE)
    yield mine
    if kube.get(mine) is not None:
        _free(mine)
        kube.delete(mine)


def body(ref: Ref, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace},
        "data": data,
    }


def in_deletion(kube: Kubernetes, ref: Ref) -> str:
    """Makes an object that is deleted and held by a finalizer. -> its uid"""
    uid = kube.apply(body(ref, a="1")).uid
    kubectl(
        *("-n", ref.namespace, "patch", "configmap", ref.name),
        *("--type=merge", "-p", '{"metadata": {"finalizers": ["llm-release.test/hold"]}}'),
    )
    assert kube.delete(ref)
    return uid


def test_apply_says_what_it_did(kube: Kubernetes, ref: Ref) -> None:
    assert kube.apply(body(ref, a="1")).change == "create"
    assert kube.apply(body(ref, a="1")).change == "keep"
    assert kube.apply(body(ref, a="2")).change == "change"


def test_a_dry_run_is_admitted_and_stores_nothing(kube: Kubernetes, ref: Ref) -> None:
    assert kube.apply(body(ref, a="1"), dry_run=True).change == "create"
    assert kube.get(ref) is None
    with pytest.raises(Permanent, match="colour"):
        kube.apply({**body(ref), "colour": "blue"}, dry_run=True)


def test_a_field_of_another_owner_is_never_taken(kube: Kubernetes, ref: Ref) -> None:
    kube.apply(body(ref, a="1"))
    kubectl(
        *("-n", ref.namespace, "patch", "configmap", ref.name),
        *("--type=merge", "-p", '{"data": {"a": "by hand"}}', "--field-manager=a-person"),
    )
    with pytest.raises(Conflict, match="a-person"):
        kube.apply(body(ref, a="2"))
    found = kube.get(ref)
    assert found is not None
    assert found["data"] == {"a": "by hand"}


def test_an_object_in_deletion_is_waited_for_and_made_anew(kube: Kubernetes, ref: Ref) -> None:
    gone = in_deletion(kube, ref)
    freed = threading.Timer(1.0, _free, (ref,))
    freed.start()
    made = kube.apply(body(ref, a="2"))
    freed.join()
    assert made.change == "create"
    assert made.uid != gone


def test_an_object_that_stays_in_deletion_is_told_with_what_holds_it(
    kube: Kubernetes, ref: Ref, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_objects, "GONE_WITHIN_S", 0.5)
    in_deletion(kube, ref)
    with pytest.raises(Transient, match=r"in deletion .* llm-release\.test/hold"):
        kube.apply(body(ref, a="2"))


def test_an_unknown_kind_is_told_as_such(kube: Kubernetes) -> None:
    with pytest.raises(Permanent, match="does not know Wombat"):
        kube.get(Ref("example.com/v1", "Wombat", "one", NAMESPACE))


def test_of_two_writers_of_a_lease_the_second_is_refused(kube: Kubernetes, service: str) -> None:
    name = f"llm-release-{service}"
    spec = {"holderIdentity": "one", "leaseTransitions": 1}
    version = kube.swap_lease(NAMESPACE, name, spec, None)
    try:
        with pytest.raises(Conflict):
            kube.swap_lease(NAMESPACE, name, spec, None)
        newer = kube.swap_lease(NAMESPACE, name, {**spec, "holderIdentity": "two"}, version)
        assert newer != version
        with pytest.raises(Conflict):
            kube.swap_lease(NAMESPACE, name, spec, version)
    finally:
        kube.delete(Ref("coordination.k8s.io/v1", "Lease", name, NAMESPACE))


def test_a_log_that_is_not_there_is_empty_and_no_error(kube: Kubernetes) -> None:
    started = time.monotonic()
    assert kube.pod_log(NAMESPACE, "no-such-pod") == ""
    assert time.monotonic() - started < kube_objects.TIMEOUT_S


def _free(ref: Ref) -> None:
    kubectl(
        *("-n", ref.namespace, "patch", "configmap", ref.name),
        *("--type=merge", "-p", '{"metadata": {"finalizers": null}}'),
    )
