"""What keeps a disk image, and when one may go."""

from __future__ import annotations

import datetime

import pytest

from llm_release.core import bootdisk, nodeplace
from llm_release.core.clusterspec import NodeImages, NodePool
from llm_release.core.imagesweep import (
    Choice,
    Found,
    FoundDisk,
    Use,
    choose,
    disk_kept,
    in_compute_class,
    in_pod_spec,
    leftover,
)
from llm_release.core.spec import Accelerator

NAMES = bootdisk.Names("sha256:" + "0123456789abcdef" * 4)
NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)


def image(*, name: str = NAMES.image, days: float = 30, verified: bool = True, **labels: str) -> Found:
    made = (NOW - datetime.timedelta(days=days)).isoformat()
    proof = {bootdisk.VERIFIED: "true"} if verified else {}
    return Found(name, "READY", {**NAMES.labels, **proof, **labels}, made)


def reason(found: Found, *uses: Use, own: str = "") -> str:
    """Why it stays, empty when it goes."""
    choice = choose([found], uses, own=own, now=NOW)
    assert (choice.delete == (found.name,)) is (not choice.kept)
    return choice.kept.get(found.name, "")


def test_an_old_image_that_nothing_names_goes() -> None:
    assert choose([image()], [], own="", now=NOW) == Choice((NAMES.image,), {})


def test_what_names_it_keeps_it_and_is_told_once_each() -> None:
    use = Use(NAMES.image, "Deployment llm/x")
    assert reason(image(), use, use) == "named by Deployment llm/x"
    many = [Use(NAMES.image, f"Deployment llm/{letter}") for letter in "edcba"]
    assert (
        reason(image(), *many) == "named by Deployment llm/a, Deployment llm/b, Deployment llm/c and 2 more"
    )


def test_a_use_of_another_image_or_of_none_keeps_nothing() -> None:
    other = bootdisk.Names("sha256:" + "f" * 64).image
    assert reason(image(), Use(other, "Deployment llm/x"), Use("", "node pool broken")) == ""


def test_the_runs_own_image_stays() -> None:
    assert reason(image(), own=NAMES.image) == "is this run's own"


@pytest.mark.parametrize(
    ("days", "verified", "why"),
    [
        (6.99, True, "is younger than 7 days"),
        (7.01, True, ""),
        (0.99, False, "is younger than 1 day"),
        (1.01, False, ""),
    ],
)
def test_a_young_image_stays_and_one_that_is_not_verified_goes_sooner(
    days: float, verified: bool, why: str
) -> None:
    assert reason(image(days=days, verified=verified)) == why


@pytest.mark.parametrize("created", ["", "yesterday", "2026-01-01T00:00:00"])
def test_an_image_whose_age_cannot_be_told_stays(created: str) -> None:
    assert reason(Found(NAMES.image, "READY", NAMES.labels, created)).startswith("has no age: it was made at")


def test_computes_own_form_of_a_time_is_understood() -> None:
    assert reason(Found(NAMES.image, "READY", NAMES.labels, "2026-11-14T03:59:59.123-08:00")) == ""


def test_an_image_that_is_being_deleted_is_not_deleted_again() -> None:
    old = image()
    assert reason(Found(old.name, "DELETING", old.labels, old.created)) == "is being deleted already"


@pytest.mark.parametrize("labels", [{}, {"managed-by": "llm-release"}, {bootdisk.DIGEST: "0123456789abcdef"}])
def test_an_image_without_our_labels_is_not_ours_whatever_its_name(labels: dict[str, str]) -> None:
    old = image()
    assert reason(Found(old.name, "READY", labels, old.created)) == "has no label of ours for that name"


def test_a_copy_of_our_image_under_another_name_is_somebodys_backup() -> None:
    assert reason(image(name="llmr-engine-backup")) == "has no label of ours for that name"


@pytest.mark.parametrize("verified", [True, False])
def test_an_image_that_a_person_asked_for_is_theirs_to_delete(verified: bool) -> None:
    asked = image(days=1000, verified=verified, **{bootdisk.ASKED: "true"})
    assert reason(asked) == "was asked for by a person: delete it by hand"
    assert reason(image(**{bootdisk.ASKED: "false"})) == ""


# Disks that builds left ---------------------------------------------------------------------------


def disk(
    name: str = NAMES.builder,
    *,
    days: float = 30,
    users: tuple[str, ...] = (),
    labels: dict[str, str] | None = None,
) -> FoundDisk:
    made = (NOW - datetime.timedelta(days=days)).isoformat()
    return FoundDisk(name, "us-central1-a", NAMES.labels if labels is None else labels, users, made)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (NAMES.builder, True),
        (NAMES.verifier, True),
        (f"{NAMES.builder}-boot", True),
        (f"{NAMES.verifier}-boot", True),
        (f"{NAMES.builder}-copy", False),
        ("llmr-build-mine", False),
        ("sim-0123456789", False),
    ],
)
def test_a_disk_of_a_build_is_known_by_labels_and_the_name_that_belongs_to_them(
    name: str, is_one: bool
) -> None:
    assert leftover(disk(name)) is is_one
    assert not leftover(disk(name, labels={}))
    assert not leftover(disk(name, labels={bootdisk.DIGEST: NAMES.labels[bootdisk.DIGEST]}))


def test_a_disk_that_a_build_left_goes_after_a_day() -> None:
    assert disk_kept(disk(days=1.01), own="", now=NOW) == ""
    assert disk_kept(disk(days=0.99), own="", now=NOW) == "is younger than 1 day"


def test_a_disk_in_use_or_of_the_run_itself_stays() -> None:
    assert disk_kept(disk(users=("m",)), own="", now=NOW) == "is in use by m"
    assert disk_kept(disk(), own=NAMES.image, now=NOW) == "is this run's own"


def test_a_disk_whose_age_cannot_be_told_stays() -> None:
    found = FoundDisk(NAMES.builder, "z", NAMES.labels, (), "")
    assert disk_kept(found, own="", now=NOW) == "has no age: it was made at an unknown time"


# Who names what -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "pool"),
    [("autopilot", None), ("compute-class", None), ("standard", NodePool(machine="g2-standard-8", max=1))],
)
def test_the_selector_of_our_own_pods_names_the_image_in_every_mode(mode: str, pool: NodePool | None) -> None:
    settings = NodeImages(mode=mode, zone="us-central1-a", subnetwork="x", node_pool=pool)  # type: ignore[arg-type]
    selector = nodeplace.selector(
        NAMES.digest,
        settings,
        project="demo",
        accelerator=Accelerator(type="nvidia-l4"),
        zone="us-central1-a",
        more={},
    )
    uses = [Use(name, "Deployment llm/x") for name in in_pod_spec({"nodeSelector": selector})]
    assert reason(image(), *uses) == "named by Deployment llm/x"


def test_an_affinity_names_it_too() -> None:
    terms = [{"matchExpressions": [{"key": bootdisk.NODE_LABEL + NAMES.image, "operator": "Exists"}]}]
    spec = {"affinity": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}}
    assert list(in_pod_spec(spec)) == [NAMES.image]


def test_a_pod_on_other_nodes_names_nothing() -> None:
    spec = {"nodeSelector": {nodeplace.POOL: "default-pool", nodeplace.CLASS: "llmr-theirs"}, "priority": 0}
    assert list(in_pod_spec(spec)) == []


@pytest.mark.parametrize("named", ["a", "projects/demo/global/images/a", "global/images/a"])
def test_a_compute_class_names_images_at_any_depth(named: str) -> None:
    disks = [{"diskImageName": named, "mode": "CONTAINER_IMAGE_CACHE"}]
    for spec in (
        {"priorities": [{"storage": {"secondaryBootDisks": disks}}]},
        {"priorities": [{"machineFamily": "g2"}, {"nodeSystem": {"storage": {"secondaryBootDisks": disks}}}]},
        {"priorityDefaults": {"storage": {"secondaryBootDisks": disks}}, "priorities": None},
    ):
        assert list(in_compute_class(spec)) == ["a"]
    assert list(in_compute_class(None)) == []
