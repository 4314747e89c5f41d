"""A second node: one call to have it, one to be rid of it, and a release's volume on both at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_release.clients.kube_objects import Ref
from llm_release.clients.kubernetes import Kubernetes
from llm_release.hooks.cluster import ClusterHook
from testbench import bench
from testbench.build import go
from testbench.cluster import host, nodes
from testbench.cluster.node import Node
from tests.bench.conftest import NAMESPACE, Kept
from tests.bench.tools import kubectl, until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def second(kept: Kept) -> Iterator[Node]:
    kept.live("v1")  # on the first node
    node = Node(2)
    try:
        node.start(bench.PROCESSES, go.programs())
        yield node
    finally:
        kubectl("uncordon", Node(1).name)
        nodes.remove(node.index, bench.PROCESSES)


def test_pods_of_a_release_read_one_volume_on_two_nodes(
    second: Node, kept: Kept, kube: Kubernetes, connect: ClusterHook
) -> None:
    world = kept.live("v1").world()
    kubectl("cordon", Node(1).name)

    kube.scale(NAMESPACE, world.names.deployment, 2)
    until(lambda: (d := kube.deployment(NAMESPACE, world.names.deployment)) is not None and d.ready == 2, 60)

    pods = kubectl(
        *("get", "pods", "-n", NAMESPACE, "-l", f"llm-release/release={world.release.id}"),
        *("-o", "jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName}{'\\n'}{end}"),
    )
    names = dict(line.split() for line in pods.splitlines())
    assert set(names.values()) == {Node(1).name, second.name}
    disk = connect.disks().get(world.release.zone, world.names.disk)
    assert disk is not None
    assert set(disk.users) == {Node(1).name, second.name}
    read = {
        kubectl("exec", "-n", NAMESPACE, pod, "--", "sh", "-c", "cd /model && sha256sum */config.json")
        for pod in names
    }
    assert len(read) == 1
    assert set(kube.endpoints(NAMESPACE, kept.service)) == set(names)

    kube.scale(NAMESPACE, world.names.deployment, 1)


def test_a_node_that_was_taken_away_leaves_nothing_and_can_come_back(kube: Kubernetes) -> None:
    node = Node(2)
    for _ in range(2):
        node.start(bench.PROCESSES, go.programs())
        assert kube.get(Ref("v1", "Node", node.name)) is not None
        nodes.remove(node.index, bench.PROCESSES)
        assert kube.get(Ref("v1", "Node", node.name)) is None
        assert nodes.indexes() == [1]
        assert node.bridge not in host.links()
        assert list(bench.PROCESSES.records.glob(f"{node.name}-*")) == []
