"""Which nodes the bench's provisioner would make for a pod, from what GKE and the cluster hold."""

from __future__ import annotations

from typing import Any

from testbench import config
from testbench.cluster import provisioner
from testbench.cluster.provisioner import Wish

POOL: dict[str, Any] = {
    "name": "llmr-p",
    "status": "RUNNING",
    "config": {
        "labels": {"llm-release/image": "llmr-engine-1"},
        "secondaryBootDisks": [{"diskImage": "projects/demo/global/images/llmr-engine-1"}],
    },
    "autoscaling": {"enabled": True, "maxNodeCount": 2},
}


def compute_class(**disk: str) -> dict[str, Any]:
    asked = {"diskImageName": "llmr-engine-1", "project": config.PROJECT, **disk}
    spec = {
        "nodePoolAutoCreation": {"enabled": True},
        "priorities": [{"storage": {"secondaryBootDisks": [asked]}}],
    }
    return {"metadata": {"name": "llmr-c"}, "spec": spec}


def test_a_pools_node_has_its_disk_and_its_labels_and_needs_no_allow_list() -> None:
    labels = {"cloud.google.com/gke-nodepool": "llmr-p", "llm-release/image": "llmr-engine-1"}
    assert provisioner.of_pool(POOL) == Wish(image="llmr-engine-1", labels=labels, needs_allowlist=False)


def test_a_pool_that_is_gone_not_ready_or_full_makes_no_node() -> None:
    assert provisioner.of_pool({}) is None
    assert provisioner.of_pool(POOL | {"status": "STOPPING"}) is None
    assert provisioner.of_pool(POOL | {"autoscaling": {}}) is None


def test_a_classs_node_has_its_disk_and_needs_an_allow_list() -> None:
    labels = {"cloud.google.com/compute-class": "llmr-c"}
    assert provisioner.of_class(compute_class()) == Wish(image="llmr-engine-1", labels=labels)


def test_a_class_that_is_gone_or_makes_no_pools_or_names_another_project_makes_no_node() -> None:
    by_hand = compute_class()
    by_hand["spec"]["nodePoolAutoCreation"]["enabled"] = False
    assert provisioner.of_class(None) is None
    assert provisioner.of_class(by_hand) is None
    assert provisioner.of_class(compute_class(project="other")) is None
