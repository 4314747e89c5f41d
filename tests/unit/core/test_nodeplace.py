"""Where serving pods run: names within GKE's limits, selectors of each mode, and what may be taken away."""

from __future__ import annotations

import re
from typing import Any

import pytest

from llm_release.core import bootdisk, nodeplace
from llm_release.core.clusterspec import NodeImages, NodePool
from llm_release.core.spec import Accelerator

DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER = "sha256:" + "f" * 64
L4 = Accelerator(type="nvidia-l4", count=2)
POOL = NodePool(machine="g2-standard-24", max=4)


def settings(mode: Any, pool: NodePool | None = None) -> NodeImages:
    return NodeImages(mode=mode, zone="us-central1-b", subnetwork="regions/r/subnetworks/s", node_pool=pool)


STANDARD = settings("standard", POOL)
CLASSES = settings("compute-class")


def selector(images: NodeImages | None, accelerator: Accelerator = L4, **more: str) -> dict[str, str]:
    return nodeplace.selector(
        DIGEST, images, project="demo", accelerator=accelerator, zone="us-central1-a", more=more
    )


def name(
    images: NodeImages, *, digest: str = DIGEST, accelerator: Accelerator = L4, zone: str = "us-central1-a"
) -> str:
    return nodeplace.name(bootdisk.Names(digest), images, accelerator, zone)


@pytest.mark.parametrize("images", [STANDARD, CLASSES])
def test_a_name_fits_a_node_pool_a_class_and_a_label(images: NodeImages) -> None:
    found = name(images)
    assert len(found) <= nodeplace.NAME_LIMIT
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", found)


def test_a_pool_is_of_one_image_and_one_shape() -> None:
    wider = settings("standard", NodePool(machine="g2-standard-24", max=4, disk_gib=200))
    found = {
        name(STANDARD),
        name(STANDARD, digest=OTHER),
        name(STANDARD, zone="us-central1-c"),
        name(STANDARD, accelerator=Accelerator(type="nvidia-l4", count=2, spot=True)),
        name(STANDARD, accelerator=Accelerator(type="nvidia-l4", count=1)),
        name(wider),
    }
    assert len(found) == 6


def test_how_far_a_pool_may_grow_can_change_without_another_pool() -> None:
    assert name(settings("standard", NodePool(machine="g2-standard-24", max=9))) == name(STANDARD)


def test_a_class_has_no_zone() -> None:
    assert name(CLASSES, zone="us-central1-a") == name(CLASSES, zone="us-central1-b")


def test_without_boot_disks_the_accelerator_chooses() -> None:
    assert selector(None) == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    spot = Accelerator(type="nvidia-l4", spot=True)
    assert selector(None, spot)["cloud.google.com/gke-spot"] == "true"


def test_autopilot_is_asked_for_the_disk_by_its_name() -> None:
    assert selector(settings("autopilot"), pool="x") == {
        "cloud.google.com/gke-accelerator": "nvidia-l4",
        "cloud.google.com.node-restriction.kubernetes.io/gke-secondary-boot-disk-llmr-engine-0123456789abcdef0123": (
            "CONTAINER_IMAGE_CACHE.demo"
        ),
        "pool": "x",
    }


def test_a_pool_and_a_class_say_all_about_their_nodes() -> None:
    spot = Accelerator(type="nvidia-l4", spot=True)
    assert selector(STANDARD, spot) == {"cloud.google.com/gke-nodepool": name(STANDARD, accelerator=spot)}
    assert selector(CLASSES, spot) == {"cloud.google.com/compute-class": name(CLASSES, accelerator=spot)}


def test_what_the_clusters_file_asks_for_is_kept_in_every_mode() -> None:
    for images in (None, settings("autopilot"), STANDARD, CLASSES):
        assert selector(images, team="llm")["team"] == "llm"


def test_no_node_label_is_one_that_a_kubelet_refuses() -> None:
    labels = nodeplace.node_labels(bootdisk.Names(DIGEST))
    assert not [k for k in labels if k.partition("/")[0].endswith(("kubernetes.io", "k8s.io"))]


def test_an_allow_list_must_match_the_whole_path() -> None:
    path = nodeplace.resource("demo", bootdisk.Names(DIGEST))
    assert nodeplace.allowed(path, ["x", "projects/demo/global/images/llmr-engine-.*"])
    assert not nodeplace.allowed(path, ["projects/demo/global/images/llmr-engine-"])
    assert not nodeplace.allowed(path, ["images/.*", "(", ""])


def test_only_what_is_ours_and_named_by_nobody_may_go() -> None:
    ours = [name(STANDARD), name(STANDARD, digest=OTHER)]
    named = nodeplace.named([{"cloud.google.com/gke-nodepool": ours[0]}, {}, {"team": ours[1]}])
    assert named == {ours[0]}
    assert nodeplace.unnamed([*ours, "default-pool", "theirs"], named) == (ours[1],)
    assert nodeplace.unnamed(ours, ours) == ()
