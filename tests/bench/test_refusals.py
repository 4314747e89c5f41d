"""Bad input and faults on the real cluster: a clear sentence, one next action, nothing made, nothing lost."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llm_release.clients.kube_objects import Ref
from llm_release.clients.kubernetes import Kubernetes
from llm_release.core.errors import Conflict, Permanent, ReleaseError
from llm_release.core.spec import Seconds
from llm_release.hooks.cluster import ClusterHook
from llm_release.steps import evidence, manifests
from testbench import bench, config
from testbench.build import go
from testbench.cluster import nodes
from testbench.cluster.node import Node
from tests.bench.conftest import NAMESPACE, Faults
from tests.bench.runner import HOME, Run
from tests.bench.tools import kubectl, until

Start = Callable[..., Run]
pytestmark = pytest.mark.timeout(300)
SIM = manifests.service(HOME, "sim")


def refused(run: Run, last: str) -> ReleaseError:
    with pytest.raises(ReleaseError) as failure:
        run.until(last)
    assert failure.value.next_action
    return failure.value


@pytest.mark.parametrize(
    ("repo", "revision", "said"),
    [
        ("acme/sim", "no-such-branch", "no-such-branch"),
        ("acme/no-such-repo", "main", "acme/no-such-repo"),
        ("acme/no-safetensors", "main", "no safetensors"),
        ("acme/with-code", "main", "carries code"),
        ("acme/missing-shard", "main", "shard"),
    ],
)
def test_a_repository_that_cannot_be_served_is_refused_before_anything_exists(
    start: Start, connect: ClusterHook, repo: str, revision: str, said: str
) -> None:
    run = start(revision, repo=repo)
    failure = refused(run, "open.resolve")
    assert isinstance(failure, Permanent)
    assert said in failure.cause


def test_a_model_without_a_chat_template_is_refused_with_the_usual_cure(start: Start) -> None:
    failure = refused(start("main", repo="acme/no-template"), "open.preflight")
    assert "no chat template" in failure.cause
    assert "-it" in failure.next_action


def test_an_image_that_does_not_exist_is_refused(start: Start) -> None:
    engine = dataclasses.replace(SIM.engine, image=f"{config.REGISTRY}/llm/llm-sim:v999")
    failure = refused(start("v1", engine=engine), "open.resolve")
    assert "llm-sim:v999 does not exist" in failure.cause


def test_a_foreign_disk_of_the_same_name_is_left_alone(start: Start, connect: ClusterHook) -> None:
    run = start("v1")
    run.until("open.resolve")
    world, disks = run.world(), connect.disks()
    disks.create(
        world.release.zone,
        world.names.disk,
        size_gib=4,
        throughput_mibps=400,
        labels={"managed-by": "terraform"},
        description="",
    )
    try:
        failure = refused(run, "open.preflight")
        assert "is not this release's (managed by terraform)" in failure.cause
    finally:
        disks.delete(world.release.zone, world.names.disk)


def test_a_volume_of_the_same_name_bound_elsewhere_is_left_alone(start: Start, kube: Kubernetes) -> None:
    run = start("v1")
    run.until("stage.seal")
    body = evidence.manifest(run.world(), "pv")
    body["spec"]["claimRef"]["name"] = "somebody-elses"
    kube.apply(body)
    failure = refused(run, "stage.publish")
    assert isinstance(failure, Conflict)
    assert "is bound to llm/somebody-elses" in failure.cause


def test_a_volume_that_would_take_its_disk_with_it_is_refused(start: Start, kube: Kubernetes) -> None:
    run = start("v1")
    run.until("stage.publish")
    kubectl("patch", "pv", run.world().names.pv, "-p", '{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}')
    with pytest.raises(Permanent, match="reclaim policy Delete"):
        run.step("stage.publish")
    kubectl("patch", "pv", run.world().names.pv, "-p", '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}')


def test_an_engine_that_crashes_is_told_within_its_second_restart_and_its_pods_are_gone(
    start: Start, kube: Kubernetes
) -> None:
    run = start("crash")
    with pytest.raises(Permanent, match="ended with exit code 1"):
        run.everything()
    assert kube.deployment(NAMESPACE, run.world().names.deployment) is None


def test_a_candidate_that_no_node_can_take_is_told_in_the_schedulers_words(start: Start) -> None:
    soon = dataclasses.replace(SIM.rollout, node_within=Seconds(5))
    run = start("v1", accelerator=dataclasses.replace(SIM.accelerator, count=99), rollout=soon)
    run.until("stage.publish")
    with pytest.raises(ReleaseError, match=r"Insufficient nvidia.com/gpu"):
        run.step("roll_out.deploy")


def test_a_candidate_that_is_not_ready_in_time_ends_at_its_deadline(start: Start) -> None:
    late = dataclasses.replace(SIM.rollout, ready_within=Seconds(10))
    run = start("late", rollout=late)
    with pytest.raises(ReleaseError, match=r"waited 10 s for 1 ready pods|progress"):
        run.everything()


def test_a_stranger_behind_the_preview_service_ends_the_release(start: Start, kube: Kubernetes) -> None:
    run = start("v1")
    run.until("roll_out.deploy")
    world = run.world()
    stranger = pod_like(kube, world.release.id, run.spec.service)
    kube.apply(stranger)
    kubectl(
        "-n",
        NAMESPACE,
        "wait",
        "--for=condition=Ready",
        "pod/" + stranger["metadata"]["name"],
        "--timeout=60s",
    )
    try:
        with pytest.raises(Permanent, match=r"loaded /tmp/other, not /model/"):
            run.step("roll_out.identify")
    finally:
        kube.delete(Ref.of(stranger))


def test_a_stockout_is_told_with_computes_own_words(start: Start, google_fault: Faults) -> None:
    run = start("v1")
    run.until("stage.access")
    google_fault(kind="stockout", match=run.world().names.disk, count=1)
    with pytest.raises(ReleaseError, match=r"ZONE_RESOURCE_POOL_EXHAUSTED|enough resources"):
        run.step("stage.disk")


def test_same_size_corruption_is_caught_and_nothing_is_sealed(
    start: Start, connect: ClusterHook, hub_fault: Faults
) -> None:
    run = start("v1")
    run.until("stage.disk")
    hub_fault(kind="corrupt", match="/cdn/", offset=1_000_000)
    with pytest.raises(Permanent) as failure:
        run.step("stage.hydrate")
    assert "model.safetensors" in failure.value.cause
    world = run.world()
    disk = connect.disks().get(world.release.zone, world.names.disk)
    assert disk is not None
    assert disk.access_mode == "READ_WRITE_SINGLE"


def test_hydration_pods_that_are_evicted_and_killed_go_on_and_no_second_job_or_disk_appears(
    start: Start, kube: Kubernetes, hub_fault: Faults
) -> None:
    with hydrating(start("v1"), hub_fault) as run:
        job = run.world().names.job("hydrate")
        first = running_pod(kube, job)
        evict(first)
        second = running_pod(kube, job, not_=first)
        kubectl("-n", NAMESPACE, "delete", "pod", second, "--grace-period=0", "--force")
    assert run.facts["stage.hydrate"]["facts"]["bytes"] == run.world().release.total_bytes


def test_a_hydration_goes_on_after_its_node_lost_its_power(
    start: Start, kube: Kubernetes, hub_fault: Faults
) -> None:
    with hydrating(start("v1"), hub_fault) as run:
        running_pod(kube, run.world().names.job("hydrate"))
        nodes.power_off(1, bench.PROCESSES)
        Node(1).start(bench.PROCESSES, go.programs())
    assert run.facts["stage.hydrate"]["facts"]["bytes"] == run.world().release.total_bytes
    run.step("stage.seal")


def test_no_token_no_terms_and_a_bad_token_are_told_apart_and_no_disk_is_made(
    start: Start, kube: Kubernetes, connect: ClusterHook
) -> None:
    said = {}
    for name, token in {"none": None, "terms": "hf_noterms", "bad": "hf_wrong"}.items():
        secret(token)
        run = start("main", repo="acme/gated", holder=name)
        failure = refused(run, "stage.access")
        said[name] = failure.cause
        run.step("close.unlock")
        assert connect.disks().get(run.world().release.zone, run.world().names.disk) is None
    secret(None)
    assert len(set(said.values())) == 3, said
    assert "token" in said["none"].lower()
    assert "terms" in said["terms"].lower()


@contextlib.contextmanager
def hydrating(run: Run, hub_fault: Faults) -> Iterator[Run]:
    """A slow hydration is under way inside, and done after."""
    run.until("stage.disk")
    hub_fault(kind="slow", match="/cdn/", rate=400_000)
    step = threading.Thread(target=run.step, args=("stage.hydrate",))
    step.start()
    try:
        yield run
    finally:
        step.join(150)
    assert "facts" in run.facts["stage.hydrate"], run.log[-5:]


def running_pod(kube: Kubernetes, job: str, *, not_: str = "") -> str:
    """The Job's pod (another than `not_`) once it has worked for a second. -> its name"""
    found: list[str] = []

    def there() -> bool:
        found[:] = [p.name for p in kube.job_pods(NAMESPACE, job) if p.phase == "Running" and p.name != not_]
        return bool(found)

    until(there)
    time.sleep(1)
    return found[0]


def evict(pod: str) -> None:
    """Asks the API for the pod's eviction, as a drain and the autoscaler do."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "-f", "-", text=json.dumps(body))


def pod_like(kube: Kubernetes, release: str, service: str) -> dict[str, Any]:
    """A pod with the candidate's labels that serves another folder."""
    labels = {"llm-release/service": service, "llm-release/release": release, "llm-release/role": "server"}
    found = kube.list("apps/v1", "Deployment", NAMESPACE, f"llm-release/service={service}")[0]
    template = found["spec"]["template"]["spec"]
    engine = dict(template["containers"][0])
    engine["command"] = [
        "sh",
        "-c",
        f"cp -r /model/{release} /tmp/other && exec vllm serve /tmp/other --served-model-name={service} --port=8000",
    ]
    engine.pop("args", None)
    spec = {**template, "containers": [engine]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{service}-stranger", "namespace": NAMESPACE, "labels": labels},
        "spec": spec,
    }


def secret(token: str | None) -> None:
    kubectl("-n", NAMESPACE, "delete", "secret", "hf-token", "--ignore-not-found")
    if token:
        kubectl("-n", NAMESPACE, "create", "secret", "generic", "hf-token", f"--from-literal=token={token}")
