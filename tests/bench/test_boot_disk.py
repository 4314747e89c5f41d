"""A node with a secondary boot disk comes when a pod asks for it, and starts its container from the disk's layers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from llm_release.clients.kube_objects import Ref
from llm_release.clients.kubernetes import Kubernetes
from llm_release.core.errors import Permanent
from llm_release.hooks.cluster import ClusterHook
from llm_release.steps import platform
from testbench import bench, config
from testbench.cluster import nodes, provisioner
from testbench.cluster.node import BOOT_DISK_LABEL, Node
from tests.bench.conftest import NAMESPACE
from tests.bench.runner import HOME, Run
from tests.bench.tools import until

pytestmark = pytest.mark.timeout(300)
ALLOWLIST = Ref("node.gke.io/v1", "GCPResourceAllowlist", "llm-release")


@pytest.fixture
def built(run: Run) -> Iterator[tuple[str, str]]:
    """(disk image, engine image); nodes with that disk are gone afterwards."""
    made = run.step("stage.node_image")
    yield made.image, run.world().release.image
    for index in nodes.indexes():
        if index > 1:
            nodes.remove(index, bench.PROCESSES)


@pytest.fixture
def nothing_allowed(built: tuple[str, str], kube: Kubernetes, connect: ClusterHook) -> Iterator[None]:
    """A cluster that was not prepared for secondary boot disks, with one that was built before."""
    kube.delete(ALLOWLIST)
    yield
    platform.run(HOME, connect.cluster, kube=kube, namespaces=[NAMESPACE])


def test_a_container_starts_from_the_layers_on_the_disk(built: tuple[str, str], kube: Kubernetes) -> None:
    image, engine = built
    kube.apply(pod("boot-disk", image, engine))
    until(lambda: phase(kube, "boot-disk") == "Running", 90)
    found = kube.get(Ref("v1", "Pod", "boot-disk", NAMESPACE))
    assert found is not None
    node = found["spec"]["nodeName"]
    assert node != Node(1).name
    said = (config.LOGS / f"{node}-bootdisk.log").read_text()
    assert re.search(
        rf"Image {re.escape(engine)} is backed by secondary boot disk caching by 100\.0% \((\d+)/\1 layers\)",
        said,
    ), said
    kube.delete(Ref("v1", "Pod", "boot-disk", NAMESPACE))


@pytest.mark.usefixtures("nothing_allowed")
def test_without_an_allow_list_the_pod_stays_pending_and_preflight_refuses(
    built: tuple[str, str], run: Run, kube: Kubernetes
) -> None:
    image, engine = built
    with pytest.raises(Permanent, match="no GCPResourceAllowlist of the cluster allows"):
        run.step("open.preflight")
    kube.apply(pod("no-allow-list", image, engine))
    until(lambda: phase(kube, "no-allow-list") == "Pending", 10)
    with pytest.raises(AssertionError, match="did not happen"):
        until(lambda: phase(kube, "no-allow-list") != "Pending", 6)
    assert nodes.indexes() == [1]
    kube.delete(Ref("v1", "Pod", "no-allow-list", NAMESPACE))


def test_a_pattern_must_match_the_whole_path() -> None:
    lists = [allowlist("projects/demo/global/images/llmr-engine-.*")]
    assert provisioner.allowed("llmr-engine-1", lists)
    assert not provisioner.allowed("other-llmr-engine-1", lists)
    assert not provisioner.allowed("llmr-engine-1", [])


def phase(kube: Kubernetes, name: str) -> str:
    found = kube.get(Ref("v1", "Pod", name, NAMESPACE))
    return str(found["status"].get("phase")) if found else "gone"


def allowlist(pattern: str) -> dict[str, object]:
    return {
        "apiVersion": "node.gke.io/v1",
        "kind": "GCPResourceAllowlist",
        "metadata": {"name": ALLOWLIST.name},
        "spec": {"allowedResourcePatterns": [pattern]},
    }


def pod(name: str, image: str, engine: str) -> dict[str, object]:
    container = {"name": "engine", "image": engine, "command": ["sleep", "600"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "nodeSelector": {BOOT_DISK_LABEL + image: f"CONTAINER_IMAGE_CACHE.{config.PROJECT}"},
            "containers": [container],
            "terminationGracePeriodSeconds": 1,
        },
    }
