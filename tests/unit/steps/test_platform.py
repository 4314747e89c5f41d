"""What a cluster is prepared with, by its way to nodes with a secondary boot disk."""

from __future__ import annotations

import pytest

from llm_release.steps import platform
from tests.unit.support.bed import Bed
from tests.unit.support.world import HOME


def prepared(bed: Bed, mode: str) -> set[str]:
    cluster = bed.world(mode).cluster
    done = platform.run(HOME, cluster, kube=bed.run.connect.kubernetes(), namespaces=["llm"])
    return {*done.created, *done.changed}


@pytest.mark.parametrize("mode", ["autopilot", "compute-class"])
def test_an_allow_list_lets_gke_make_nodes_with_images_of_releases_alone(bed: Bed, mode: str) -> None:
    made = prepared(bed, mode)
    assert "GCPResourceAllowlist llm-release" in made
    assert "ClusterRole llm-release-nodes" not in made
    allowlist = bed.api.objects["gcpresourceallowlists", "", "llm-release"]
    assert allowlist["spec"]["allowedResourcePatterns"] == ["projects/demo/global/images/llmr-engine-.*"]


def test_only_where_pools_are_ours_may_nodes_be_cordoned(bed: Bed) -> None:
    made = prepared(bed, "standard")
    assert {"ClusterRole llm-release-nodes", "ClusterRoleBinding llm-release-nodes"} <= made
    assert "GCPResourceAllowlist llm-release" not in made


def test_a_cluster_without_boot_disks_gets_neither(bed: Bed) -> None:
    made = prepared(bed, "")
    assert not made & {"ClusterRole llm-release-nodes", "GCPResourceAllowlist llm-release"}


@pytest.mark.parametrize(
    ("role", "group", "resource", "verb"),
    [
        (("clusterroles", "", "llm-release"), "", "nodes", "get"),
        (("roles", "llm", "llm-release"), "apps", "deployments", "list"),
        (("roles", "llm", "llm-release"), "apps", "statefulsets", "list"),
        (("roles", "llm", "llm-release"), "", "pods", "list"),
    ],
)
def test_a_release_may_ask_what_a_node_has_and_who_names_nodes(
    bed: Bed, role: tuple[str, str, str], group: str, resource: str, verb: str
) -> None:
    prepared(bed, "autopilot")
    rules = bed.api.objects[role]["rules"]
    granted = {v for r in rules if group in r["apiGroups"] and resource in r["resources"] for v in r["verbs"]}
    assert verb in granted
    assert resource != "nodes" or granted == {"get"}


def test_prepared_again_nothing_changes(bed: Bed) -> None:
    prepared(bed, "standard")
    assert prepared(bed, "standard") == set()
