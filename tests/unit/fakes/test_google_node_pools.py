"""Node pools of the fake GKE, as the real client sees them: refusals at once, failures inside the operation."""

from __future__ import annotations

import time
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import container_v1

from tests.unit.fakes.google_apis import GoogleApis

PLACE = "projects/demo/locations/us-central1"
CLUSTER = f"{PLACE}/clusters/demo"
IMAGE = "projects/demo/global/images/llmr-engine-1"
DONE = container_v1.Operation.Status.DONE


@pytest.fixture
def gke(google: GoogleApis) -> GoogleApis:
    """A Standard cluster, and the disk image llmr-engine-1."""
    assert google.cloud is not None
    with google.cloud.state.changing() as held:
        held.resources[IMAGE] = {"kind": "compute#image"}
    return google


def pool(name: str = "p", **config: Any) -> dict[str, Any]:
    fields = {
        "machine_type": "g2-standard-24",
        "accelerators": [{"accelerator_type": "nvidia-l4", "accelerator_count": 2}],
        "gcfs_config": {"enabled": True},
        "secondary_boot_disks": [{"disk_image": IMAGE, "mode": "CONTAINER_IMAGE_CACHE"}],
    }
    scaling = {"enabled": True, "max_node_count": 2}
    return {
        "name": name,
        "config": fields | config,
        "locations": ["us-central1-a"],
        "autoscaling": scaling,
    }


def create(google: GoogleApis, wish: dict[str, Any] | None = None) -> Any:
    return google.clusters.create_node_pool(parent=CLUSTER, node_pool=wish or pool())


def finished(google: GoogleApis, started: Any) -> Any:
    while (found := google.clusters.get_operation(name=f"{PLACE}/operations/{started.name}")).status != DONE:
        time.sleep(0.02)
    return found


def status(google: GoogleApis, name: str = "p") -> str:
    return str(google.clusters.get_node_pool(name=f"{CLUSTER}/nodePools/{name}").status.name)


def test_a_pool_is_made_and_deleted_by_operations(gke: GoogleApis) -> None:
    started = create(gke)
    assert started.operation_type.name == "CREATE_NODE_POOL"
    assert finished(gke, started).target_link.endswith("/clusters/demo/nodePools/p")
    assert status(gke) == "RUNNING"
    assert [p.name for p in gke.clusters.list_node_pools(parent=CLUSTER).node_pools] == ["default-pool", "p"]
    assert [p.name for p in gke.clusters.get_cluster(name=CLUSTER).node_pools] == ["default-pool", "p"]
    finished(gke, gke.clusters.delete_node_pool(name=f"{CLUSTER}/nodePools/p"))
    with pytest.raises(exceptions.NotFound):
        status(gke)
    assert [o.operation_type.name for o in gke.clusters.list_operations(parent=PLACE).operations] == [
        "CREATE_NODE_POOL",
        "DELETE_NODE_POOL",
    ]


def test_what_was_asked_for_is_kept(gke: GoogleApis) -> None:
    finished(gke, create(gke, pool(resource_labels={"managed-by": "x"}, spot=True)))
    found = gke.clusters.get_node_pool(name=f"{CLUSTER}/nodePools/p")
    assert found.config.spot
    assert found.config.resource_labels == {"managed-by": "x"}
    assert found.config.secondary_boot_disks[0].disk_image == IMAGE
    assert found.autoscaling.max_node_count == 2


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (pool("P"), "node_pool.name"),
        (pool("p" * 41), "node_pool.name"),
        (pool(machine_type="g9-standard-8"), "not available in the zone"),
        (pool(machine_type="g2-standard-8"), "has 1 of nvidia-l4"),
        (pool() | {"locations": ["us-east4-a"]}, "not in the cluster's region"),
        (pool(labels={"app.kubernetes.io/managed-by": "x"}), "reserved namespace"),
        (pool(resource_labels={"Managed": "x"}), "invalid characters"),
        (pool(secondary_boot_disks=[{"disk_image": "projects/demo/global/images/none"}]), "was not found"),
        (pool(gcfs_config={"enabled": False}), "need image streaming"),
    ],
)
def test_a_pool_that_gke_would_not_make_is_refused_at_once(
    gke: GoogleApis, wish: dict[str, Any], said: str
) -> None:
    with pytest.raises(exceptions.BadRequest, match=said):
        create(gke, wish)
    assert [p.name for p in gke.clusters.list_node_pools(parent=CLUSTER).node_pools] == ["default-pool"]


def test_a_field_that_gke_does_not_have_is_refused(gke: GoogleApis) -> None:
    bearer = str(gke.plain.token)
    with pytest.raises(OSError, match="400"):
        gke.http("POST", f"/v1/{CLUSTER}/nodePools", {"nodePool": {"name": "p", "machine": "x"}}, bearer)


def test_a_name_is_used_once(gke: GoogleApis) -> None:
    finished(gke, create(gke))
    with pytest.raises(exceptions.Conflict, match="Already exists"):
        create(gke)


def test_a_stockout_is_in_the_operation_and_the_pool_stays_broken(gke: GoogleApis) -> None:
    gke.control("POST", "faults", kind="stockout", match="CREATE_NODE_POOL", count=1)
    failed = finished(gke, create(gke))
    assert "does not have enough resources" in failed.error.message
    assert [c.code.name for c in failed.nodepool_conditions] == ["GCE_STOCKOUT"]
    assert status(gke) == "ERROR"


def test_a_pool_that_is_being_made_cannot_be_deleted(gke: GoogleApis) -> None:
    gke.control("POST", "faults", kind="op-stuck", match="CREATE_NODE_POOL", count=1)
    started = create(gke)
    with pytest.raises(exceptions.BadRequest, match=f"incompatible operation {started.name}"):
        gke.clusters.delete_node_pool(name=f"{CLUSTER}/nodePools/p")
    assert status(gke) == "PROVISIONING"


def test_pools_and_their_operations_outlive_a_restart(gke: GoogleApis) -> None:
    gke.control("POST", "faults", kind="op-stuck", match="CREATE_NODE_POOL", count=1)
    started = create(gke)
    gke.stop()
    gke.start()
    finished(gke, started)
    assert status(gke) == "RUNNING"


def test_an_autopilot_cluster_takes_no_pools(google: GoogleApis) -> None:
    google.stop()
    google.start(autopilot=True)
    with pytest.raises(exceptions.BadRequest, match="Autopilot"):
        create(google)


def test_making_and_deleting_take_the_right_to_change_the_cluster(gke: GoogleApis) -> None:
    (gke.folder / "iam.json").write_text(
        '{"release@demo.iam.gserviceaccount.com": ["container.clusters.get"]}'
    )
    with pytest.raises(exceptions.Forbidden, match=r"container\.clusters\.update"):
        create(gke)


def test_changes_are_listed_as_writes(gke: GoogleApis) -> None:
    finished(gke, create(gke))
    status(gke)
    (write,) = gke.control("GET", "writes")["writes"]
    assert (write["method"], write["path"]) == ("POST", f"{CLUSTER}/nodePools")
