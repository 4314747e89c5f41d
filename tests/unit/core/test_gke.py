"""What a GKE cluster must be for nodes with secondary boot disks."""

from __future__ import annotations

import pytest

from llm_release.core.gke import Cluster, findings, not_streamed, version

NEW = "1.36.3-gke.1000000"


def cluster(at: str = NEW, *, autopilot: bool = False, auto: bool = False, streaming: bool = True) -> Cluster:
    return Cluster(version=at, autopilot=autopilot, auto_provisioning=auto, image_streaming=streaming)


def told(found: Cluster, mode: str) -> list[tuple[bool, str]]:
    """(refused, how the cause begins)"""
    return [(f.refused, f.cause) for f in findings(found, mode)]


@pytest.mark.parametrize(
    ("found", "mode"),
    [
        (cluster(autopilot=True, streaming=False), "autopilot"),
        (cluster(autopilot=True), "compute-class"),
        (cluster(), "compute-class"),
        (cluster(), "standard"),
        (cluster(auto=True), "autopilot"),
    ],
)
def test_a_cluster_that_fits(found: Cluster, mode: str) -> None:
    assert told(found, mode) == []


@pytest.mark.parametrize(
    ("found", "mode", "said"),
    [
        (cluster(autopilot=True), "standard", "it is an Autopilot cluster"),
        (cluster(), "autopilot", "it is a Standard cluster without node auto-provisioning"),
    ],
)
def test_a_mode_that_the_cluster_cannot_do_is_refused(found: Cluster, mode: str, said: str) -> None:
    ((refused, cause),) = told(found, mode)
    assert refused
    assert cause.startswith(said)


@pytest.mark.parametrize(
    ("at", "autopilot", "mode", "fits"),
    [
        ("1.28.3-gke.1067000", False, "standard", True),
        ("1.28.3-gke.1066999", False, "standard", False),
        ("1.28.3-gke.999999", False, "standard", False),
        ("1.28.10-gke.1", False, "standard", True),
        ("1.9.9-gke.9999999", False, "standard", False),
        ("1.30.1-gke.1329000", True, "autopilot", True),
        ("1.30.1-gke.1328999", True, "autopilot", False),
        ("1.29.9-gke.9999999", True, "autopilot", False),
        ("1.30.3-gke.1451000", True, "compute-class", False),
        ("1.31.2-gke.1105000", True, "compute-class", True),
        ("1.31.2-gke.1104999", True, "compute-class", False),
    ],
)
def test_versions_are_compared_as_numbers(at: str, autopilot: bool, mode: str, fits: bool) -> None:
    found = told(cluster(at, autopilot=autopilot), mode)
    assert [(refused, f"its version {at} is older than" in cause) for refused, cause in found] == (
        [] if fits else [(True, True)]
    )


@pytest.mark.parametrize(
    ("at", "auto", "least"),
    [
        ("1.31.2-gke.1104999", True, "1.31.2-gke.1105000, which mode compute-class needs here"),
        ("1.31.2-gke.1105000", True, ""),
        (
            "1.33.3-gke.1135999",
            False,
            "1.33.3-gke.1136000, which mode compute-class needs on a Standard cluster",
        ),
        ("1.33.3-gke.1136000", False, ""),
    ],
)
def test_classes_need_a_later_version_where_nothing_else_makes_node_pools(
    at: str, auto: bool, least: str
) -> None:
    found = told(cluster(at, auto=auto), "compute-class")
    assert [least in cause for _, cause in found] == ([True] if least else [])


@pytest.mark.parametrize("at", ["", "v1.36.3", "1.36"])
def test_a_version_that_cannot_be_read_is_told_and_refuses_nothing(at: str) -> None:
    assert version(at) is None
    assert told(cluster(at), "standard") == [(False, f"its version {at!r} is not of GKE's form")]


@pytest.mark.parametrize(("mode", "refused"), [("standard", False), ("compute-class", True)])
def test_a_standard_cluster_without_image_streaming_is_told_what_to_do(mode: str, refused: bool) -> None:
    (found,) = findings(cluster(streaming=False), mode)
    assert (found.refused, found.cause.split(",")[0]) == (
        refused,
        "image streaming is off for new node pools",
    )
    assert ("--enable-image-streaming" in found.next_action) is refused


def test_everything_that_does_not_fit_is_found_at_once() -> None:
    assert len(told(cluster("1.27.1-gke.1", streaming=False), "autopilot")) == 3


@pytest.mark.parametrize(
    ("host", "location", "why"),
    [
        ("us-central1-docker.pkg.dev", "us-central1", ""),
        ("us-central1-docker.pkg.dev", "us-central1-a", ""),
        ("us-docker.pkg.dev", "us-east4", ""),
        ("europe-docker.pkg.dev", "europe-west4", ""),
        ("asia-docker.pkg.dev", "asia-southeast1-b", ""),
        ("us-east4-docker.pkg.dev", "us-central1", "its registry is in us-east4, the cluster in us-central1"),
        ("us-docker.pkg.dev", "europe-west4", "its registry is in us, the cluster in europe-west4"),
        (
            "us-docker.pkg.dev",
            "northamerica-northeast1",
            "its registry is in us, the cluster in northamerica-northeast1",
        ),
        ("docker.io", "us-central1", "docker.io is no Artifact Registry (<location>-docker.pkg.dev)"),
        ("10.88.255.1:5000", "us-central1", "10.88.255.1:5000 is no Artifact Registry"),
    ],
)
def test_images_are_streamed_from_the_clusters_own_region_or_what_contains_it(
    host: str, location: str, why: str
) -> None:
    found = not_streamed(f"{host}/p/r/i@sha256:{'a' * 64}", location)
    assert found.startswith(why)
    assert bool(found) is bool(why)
