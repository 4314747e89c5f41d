"""There can be nodes with the boot disk before the first pod asks: by a pool, by a class, or by Autopilot itself."""

from __future__ import annotations

import pytest

from llm_release.core import nodeplace
from llm_release.core.clusterspec import NodePool
from llm_release.core.errors import Conflict, Permanent, Transient
from llm_release.core.spec import Accelerator
from llm_release.steps import manifests, nodes
from llm_release.steps.world import Skipped, Wait, World
from tests.unit.support.bed import NAMES, Bed

IMAGE = f"projects/demo/global/images/{NAMES.image}"
ALLOWED = "projects/demo/global/images/llmr-engine-.*"


def made(bed: Bed, world: World) -> nodes.Nodes:
    found = bed.until_done(nodes.run, world)
    assert isinstance(found, nodes.Nodes)
    return found


def changes(bed: Bed) -> list[str]:
    """Every change that Google and the cluster were asked for."""
    google = bed.google.control("GET", "writes")["writes"]
    return [f"{w['method']} {w['path'].rpartition('/')[2]}" for w in google] + bed.api.writes


def test_a_cluster_without_boot_disks_is_skipped(bed: Bed) -> None:
    with pytest.raises(Skipped, match="has no node_images"):
        nodes.run(bed.world(""))


# Autopilot ----------------------------------------------------------------------------------------


def test_autopilot_needs_nothing_but_an_allow_list_that_names_the_image(bed: Bed) -> None:
    bed.allow(ALLOWED)
    found = made(bed, bed.world("autopilot"))
    assert (found.mode, found.name) == ("autopilot", "")
    assert found.selector[f"{_label()}{NAMES.image}"] == "CONTAINER_IMAGE_CACHE.demo"
    assert changes(bed) == []


@pytest.mark.parametrize("mode", ["autopilot", "compute-class"])
def test_an_image_that_no_allow_list_names_is_told_with_the_dag_that_allows_it(bed: Bed, mode: str) -> None:
    bed.allow("projects/demo/global/images/other-.*")
    with pytest.raises(Permanent, match=f"no GCPResourceAllowlist of the cluster allows {IMAGE}") as refused:
        nodes.run(bed.world(mode))
    assert refused.value.next_action == "trigger platform__demo once."
    assert changes(bed) == []


def _label() -> str:
    return "cloud.google.com.node-restriction.kubernetes.io/gke-secondary-boot-disk-"


# ComputeClass -------------------------------------------------------------------------------------


def test_a_compute_class_names_the_disk_and_the_gpus(bed: Bed) -> None:
    bed.allow(ALLOWED)
    found = made(bed, bed.world("compute-class", accelerator=Accelerator(type="nvidia-l4", spot=True)))
    assert found.selector == {"cloud.google.com/compute-class": found.name}
    body = bed.api.objects["computeclasses", "", found.name]
    assert body["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "llm-release"
    assert body["spec"]["nodePoolAutoCreation"] == {"enabled": True}
    assert body["spec"]["whenUnsatisfiable"] == "DoNotScaleUp"
    (priority,) = body["spec"]["priorities"]
    assert priority["gpu"] == {"type": "nvidia-l4", "count": 1, "driverVersion": "default"}
    assert priority["spot"] is True
    assert priority["storage"]["secondaryBootDisks"] == [
        {"diskImageName": NAMES.image, "project": "demo", "mode": "CONTAINER_IMAGE_CACHE"}
    ]


def test_a_compute_class_that_is_there_is_not_written_again(bed: Bed) -> None:
    bed.allow(ALLOWED)
    first = made(bed, bed.world("compute-class"))
    assert made(bed, bed.world("compute-class")) == first
    assert changes(bed) == [f"PATCH computeclasses/{first.name}"]


def test_a_compute_class_of_somebody_else_is_left_alone(bed: Bed) -> None:
    bed.allow(ALLOWED)
    world = bed.world("compute-class")
    (name,) = nodeplace.named([manifests.serving_selector(world.spec, world.cluster, world.release)])
    bed.api.put("cloud.google.com/v1", "ComputeClass", name)
    with pytest.raises(Conflict, match=f"ComputeClass {name} exists and belongs to somebody else"):
        nodes.run(world)


# Standard -----------------------------------------------------------------------------------------


def test_a_pool_is_made_that_grows_from_nothing_and_has_the_disk(bed: Bed) -> None:
    found = made(bed, bed.world("standard"))
    assert found.selector == {"cloud.google.com/gke-nodepool": found.name}
    pool = bed.google.clusters.get_node_pool(name=path(found.name))
    config = pool.config
    assert (pool.status.name, list(pool.locations)) == ("RUNNING", ["us-central1-a"])
    scaling = pool.autoscaling
    assert (scaling.enabled, scaling.min_node_count, scaling.max_node_count) == (True, 0, 2)
    assert [(d.disk_image, d.mode.name) for d in config.secondary_boot_disks] == [
        (IMAGE, "CONTAINER_IMAGE_CACHE")
    ]
    assert [(a.accelerator_type, a.accelerator_count) for a in config.accelerators] == [("nvidia-l4", 1)]
    assert config.gcfs_config.enabled
    assert (config.machine_type, config.spot) == ("g2-standard-8", False)
    assert config.service_account == "nodes@demo.iam.gserviceaccount.com"
    assert config.resource_labels["managed-by"] == "llm-release"
    assert config.labels["llm-release/image"] == NAMES.image
    assert pool.management.auto_repair
    assert pool.management.auto_upgrade


def test_a_pool_that_is_there_is_used_as_it_is(bed: Bed) -> None:
    first = made(bed, bed.world("standard"))
    assert made(bed, bed.world("standard")) == first
    assert changes(bed) == ["POST nodePools"]


def test_a_run_that_lost_its_lease_makes_nothing(bed: Bed) -> None:
    bed.lease("sim", "release__sim/another")
    with pytest.raises(Conflict, match="release__sim/another"):
        nodes.run(bed.world("standard"))
    assert changes(bed) == []


def test_other_machines_are_another_pool(bed: Bed) -> None:
    first = made(bed, bed.world("standard"))
    second = made(bed, bed.world("standard", pool=NodePool(machine="g2-standard-12", max=1)))
    assert first.name != second.name


def test_a_pool_of_that_name_with_another_image_is_not_ours(bed: Bed) -> None:
    world = bed.world("standard")
    found = made(bed, world)
    key = f"projects/demo/locations/us-central1/clusters/demo/nodePools/{found.name}"
    assert bed.google.cloud is not None
    with bed.google.cloud.state.changing() as held:
        held.resources[key]["config"]["secondaryBootDisks"][0]["diskImage"] = (
            "projects/demo/global/images/other"
        )
    with pytest.raises(Permanent, match=f"node pool {found.name} exists and is not ours for {IMAGE}"):
        nodes.run(world)


def test_a_pool_that_could_not_be_made_is_told_in_words_and_made_again_by_the_next_try(bed: Bed) -> None:
    bed.google.control("POST", "faults", kind="stockout", match="CREATE_NODE_POOL", count=1)
    world = bed.world("standard")
    with pytest.raises(AssertionError, match="does not have enough resources available"):
        bed.until_done(nodes.run, world)
    assert made(bed, world).name
    assert changes(bed) == ["POST nodePools", f"DELETE {made(bed, world).name}", "POST nodePools"]


def test_a_pool_that_another_run_is_making_is_waited_for(bed: Bed) -> None:
    bed.google.control("POST", "faults", kind="op-stuck", match="CREATE_NODE_POOL", count=1)
    world = bed.world("standard")
    first, second = nodes.run(world), nodes.run(world)
    assert isinstance(first, Wait)
    assert isinstance(second, Wait)
    assert (first.kind, first.name) == (second.kind, second.name)
    bed.google.control("DELETE", "faults")
    assert made(bed, world).name


def test_another_change_of_the_cluster_is_waited_for(bed: Bed) -> None:
    said = "Cluster is running incompatible operation operation-17-ab."
    bed.google.control(
        "POST", "faults", kind="api-error", code=400, message=said, match="POST .*nodePools", count=1
    )
    found = nodes.run(bed.world("standard"))
    assert isinstance(found, Wait)
    assert (found.kind, found.name) == ("node_pool", "operation-17-ab")


def test_a_right_that_is_missing_and_a_quota_are_told_with_what_to_do(bed: Bed) -> None:
    for said, next_action in (
        ("Insufficient regional quota to satisfy request: resource NVIDIA_L4_GPUS", "raise that quota"),
        ("Required 'container.clusters.update' permission", "grant the connection's account"),
    ):
        bed.google.control(
            "POST", "faults", kind="api-error", code=403, message=said, match="POST .*nodePools", count=1
        )
        with pytest.raises(Permanent, match=said) as refused:
            nodes.run(bed.world("standard"))
        assert next_action in refused.value.next_action


def test_gke_that_is_down_is_worth_a_retry(bed: Bed) -> None:
    bed.google.control("POST", "faults", kind="api-error", code=503, match="POST .*nodePools", count=1)
    with pytest.raises(Transient, match="GKE answered 503"):
        nodes.run(bed.world("standard"))


def test_nodes_that_a_run_cordoned_to_retire_them_take_pods_again(bed: Bed) -> None:
    found = made(bed, bed.world("standard"))
    bed.node("ours", dict(found.selector))
    bed.node("a-persons", dict(found.selector))
    for name, note in (("ours", {nodeplace.RETIRING: "true"}), ("a-persons", {})):
        node = bed.api.objects["nodes", "", name]
        node["spec"]["unschedulable"] = True
        node["metadata"]["annotations"] = note
    made(bed, bed.world("standard"))
    assert bed.api.objects["nodes", "", "ours"]["spec"]["unschedulable"] is False
    assert bed.api.objects["nodes", "", "a-persons"]["spec"]["unschedulable"] is True


def test_a_clusters_file_that_changed_since_the_run_was_opened_is_told(bed: Bed) -> None:
    """The kept Deployment would wait for nodes of another name."""
    bed.world("standard")
    later = bed.world("compute-class")
    bed.world("standard")
    with pytest.raises(Permanent, match="was changed since this run was opened"):
        nodes.run(later)


def path(pool: str) -> str:
    return f"projects/demo/locations/us-central1/clusters/demo/nodePools/{pool}"
