"""Node pools and ComputeClasses with a secondary boot disk: made, used by a pod, kept while named, retired."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pytest

from llm_release.clients.kube_objects import Ref
from llm_release.clients.kubernetes import Kubernetes
from llm_release.core.clusterspec import NodePool
from llm_release.core.names import FIELD_MANAGER, MANAGED_BY
from llm_release.hooks.cluster import ClusterHook
from llm_release.steps.nodes import Nodes
from llm_release.steps.retire_nodes import Retired
from testbench import bench, config
from testbench.cluster import nodes
from testbench.cluster.node import Node
from tests.bench.conftest import NAMESPACE, NODE_IMAGES
from tests.bench.runner import Run
from tests.bench.test_boot_disk import phase
from tests.bench.tools import until

pytestmark = pytest.mark.timeout(300)
POOL = NodePool(machine="g2-standard-8", max=1)
KEPT = Ref("apps/v1", "Deployment", "kept-at-zero", NAMESPACE)
POD = Ref("v1", "Pod", "on-the-disk", NAMESPACE)


@pytest.fixture(autouse=True)
def clean(run: Run, kube: Kubernetes, connect: ClusterHook) -> Iterator[None]:
    """All that a test made goes."""
    yield
    for ref in (KEPT, POD):
        kube.delete(ref)
    for body in kube.list("cloud.google.com/v1", "ComputeClass", "", f"{MANAGED_BY}={FIELD_MANAGER}"):
        kube.delete(Ref.of(body))
    pools = connect.node_pools()
    for pool in pools.list():
        if pool.name.startswith("llmr-"):
            pools.delete(pool.name)
    for index in nodes.indexes():
        if index > 1:
            nodes.remove(index, bench.PROCESSES)


def test_a_node_pool_lives_as_long_as_something_names_it_or_runs_on_it(
    run: Run, kube: Kubernetes, connect: ClusterHook
) -> None:
    made = staged(run, "standard")
    node = started(run, kube, made.selector)
    assert node["metadata"]["labels"]["cloud.google.com/gke-nodepool"] == made.name
    kube.apply(deployment(made.selector))
    assert retired(run).left == ()
    kube.delete(KEPT)
    until(lambda: kube.get(KEPT) is None)
    assert retired(run).left == (made.name,)
    pool = connect.node_pools().get(made.name)
    assert pool is not None
    assert pool.status == "RUNNING"
    ended(kube)
    assert retired(run).left == ()
    assert connect.node_pools().get(made.name) is None
    until(lambda: nodes.indexes() == [1], 90)


def test_a_compute_class_lives_as_long_as_something_names_it(run: Run, kube: Kubernetes) -> None:
    made = staged(run, "compute-class")
    found = Ref("cloud.google.com/v1", "ComputeClass", made.name)
    node = started(run, kube, made.selector)
    assert node["metadata"]["labels"]["cloud.google.com/compute-class"] == made.name
    kube.apply(deployment(made.selector))
    retired(run)
    assert kube.get(found) is not None
    kube.delete(KEPT)
    until(lambda: kube.get(KEPT) is None)
    retired(run)
    assert kube.get(found) is not None, "its pod still runs"
    ended(kube)
    retired(run)
    until(lambda: kube.get(found) is None)


def staged(run: Run, mode: Literal["standard", "compute-class"]) -> Nodes:
    """The lease is kept, the manifests are written anew with this mode's selector."""
    pool = POOL if mode == "standard" else None
    run.node_images = dataclasses.replace(NODE_IMAGES, mode=mode, node_pool=pool)
    for step in ("open.lock", "stage.node_image", "stage.verify_image"):
        run.step(step)
    found = run.step("stage.nodes")
    assert isinstance(found, Nodes)
    return found


def started(run: Run, kube: Kubernetes, selector: Mapping[str, str]) -> dict[str, Any]:
    """A pod of the engine runs from the disk's layers. -> its node"""
    engine = run.world().release.image
    kube.apply(pod(selector, engine))
    until(lambda: phase(kube, POD.name) == "Running", 90)
    found = kube.get(POD)
    assert found is not None
    name = found["spec"]["nodeName"]
    assert name != Node(1).name
    said = (config.LOGS / f"{name}-bootdisk.log").read_text()
    assert re.search(
        rf"Image {re.escape(engine)} is backed by secondary boot disk caching by 100\.0%", said
    ), said
    node = kube.get(Ref("v1", "Node", name))
    assert node is not None
    return node


def ended(kube: Kubernetes) -> None:
    kube.delete(POD)
    until(lambda: kube.get(POD) is None)


def retired(run: Run) -> Retired:
    found = run.step("promote.retire_nodes")
    assert isinstance(found, Retired)
    return found


def pod(selector: Mapping[str, str], engine: str) -> dict[str, Any]:
    container = {"name": "engine", "image": engine, "command": ["sleep", "600"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD.name, "namespace": NAMESPACE},
        "spec": {
            "nodeSelector": dict(selector),
            "containers": [container],
            "terminationGracePeriodSeconds": 1,
        },
    }


def deployment(selector: Mapping[str, str]) -> dict[str, Any]:
    """One of ours, scaled to zero as the release before the live one is."""
    labels = {MANAGED_BY: FIELD_MANAGER, "llm-release/service": "kept"}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "nodeSelector": dict(selector),
            "containers": [{"name": "engine", "image": config.IMAGE_PAUSE}],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": KEPT.name, "namespace": NAMESPACE, "labels": labels},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }
