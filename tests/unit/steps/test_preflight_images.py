"""What would fail only after minutes of building is refused before anything is made; every reason at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from llm_release.core.errors import Permanent, ReleaseError, Transient
from llm_release.steps import preflight, preflight_images
from llm_release.steps.world import World
from testbench.fakes.web import Request, Response, Server, as_json
from tests.unit.support.bed import NAMES, Bed
from tests.unit.support.release import DIGEST, release

ALLOWED = "projects/demo/global/images/llmr-engine-.*"
IMAGE = f"projects/demo/global/images/{NAMES.image}"


class Host:
    """A registry that has one image, for the platform `architecture`; `status` is what it answers."""

    def __init__(self) -> None:
        self.architecture, self.status = "amd64", 200
        self.server = Server(("127.0.0.1", 0), self)
        self.server.start()
        self.name = self.server.url.removeprefix("http://")

    def __call__(self, request: Request) -> Response:
        if self.status != 200:
            return Response(status=self.status)
        if "/blobs/" in request.path:
            about = {"os": "linux", "architecture": self.architecture}
            return as_json({**about, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]}})
        layers = [{"digest": "sha256:" + "2" * 64, "size": 1 << 20}]
        return as_json({"config": {"digest": "sha256:" + "3" * 64}, "layers": layers})


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.server.stop()


@pytest.fixture
def bed(bed: Bed, host: Host) -> Bed:
    """Everything is as it should be, for a Standard cluster with auto-provisioning."""
    bed.run.connect.registry_host = host.name
    bed.allow(ALLOWED)
    ours(bed)
    return bed


def ours(bed: Bed, **labels: str) -> None:
    assert bed.google.cloud is not None
    with bed.google.cloud.state.changing() as held:
        held.resources[IMAGE] = {"name": NAMES.image, "status": "READY", "labels": {**NAMES.labels, **labels}}


def cluster(bed: Bed, **settings: Any) -> None:
    """Another cluster of the same name."""
    bed.google.stop()
    bed.google.start(**settings)


def world(bed: Bed, mode: str = "autopilot", image: str = "") -> World:
    made = bed.world(mode)
    made.release = release(image=image or f"{bed.run.connect.registry_host}/llm/engine@{DIGEST}")
    return made


def found(bed: Bed, mode: str = "autopilot", image: str = "") -> list[ReleaseError]:
    at = world(bed, mode, image)
    return [e for _, check in preflight_images.CHECKS for e in check(at)]


MODES = ("autopilot", "compute-class", "standard")


@pytest.mark.parametrize("mode", MODES)
def test_what_is_as_it_should_be_passes_and_nothing_is_written(bed: Bed, mode: str) -> None:
    assert found(bed, mode) == []
    assert bed.google.control("GET", "writes")["writes"] == []
    assert bed.api.writes == []


@pytest.mark.parametrize("mode", ["", "autopilot"])
def test_they_are_checks_of_preflight_where_the_cluster_has_node_images(
    bed: Bed, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "CHECKS", ())
    names = [name for name, _ in preflight_images.CHECKS]
    assert preflight.run(world(bed, mode)).checks == tuple(names if mode else ())


def test_every_reason_is_told_at_once(bed: Bed, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.architecture = "arm64"
    bed.api.objects.pop(("gcpresourceallowlists", "", "some"))
    cluster(bed, auto_provisioning=False, image_streaming=False, cluster_version="1.27.1-gke.1")
    ours(bed, **{"managed-by": "terraform"})
    monkeypatch.setattr(preflight, "CHECKS", ())
    with pytest.raises(
        Permanent, match=r"is for linux/arm64, not for linux/amd64.*\(and 5 more, in the log\)"
    ):
        preflight.run(world(bed))
    assert len([line for line in bed.run.log if line.startswith("failed ")]) == 6


# The engine's image and the disk image ---------------------------------------------------------------


def test_an_engine_for_other_machines_is_refused(bed: Bed, host: Host) -> None:
    host.architecture = "arm64"
    (refused,) = found(bed)
    assert "is for linux/arm64, not for linux/amd64" in refused.cause


@pytest.mark.parametrize(("status", "said"), [(404, "does not exist"), (403, "may not be read")])
def test_an_engine_that_cannot_be_read_is_refused(bed: Bed, host: Host, status: int, said: str) -> None:
    host.status = status
    (refused,) = found(bed)
    assert said in refused.cause


def test_a_registry_that_is_busy_is_worth_a_retry(bed: Bed, host: Host) -> None:
    host.status = 503
    with pytest.raises(Transient):
        found(bed)


def test_a_disk_image_of_somebody_else_under_our_name_is_refused(bed: Bed) -> None:
    ours(bed, **{"managed-by": "terraform"})
    (refused,) = found(bed)
    assert f"disk image {NAMES.image} exists and is not ours" in refused.cause


def test_a_disk_image_that_is_not_there_yet_is_right(bed: Bed) -> None:
    assert bed.google.cloud is not None
    with bed.google.cloud.state.changing() as held:
        del held.resources[IMAGE]
    assert found(bed) == []


@pytest.mark.parametrize(("mode", "refusals"), [("autopilot", 1), ("compute-class", 1), ("standard", 0)])
def test_a_disk_image_that_no_allow_list_names_is_refused_where_gke_makes_the_nodes(
    bed: Bed, mode: str, refusals: int
) -> None:
    bed.allow("projects/demo/global/images/other-.*")
    refused = found(bed, mode)
    assert [f"allows {IMAGE}" in e.cause for e in refused] == [True] * refusals
    assert all(e.next_action == "trigger platform__demo once." for e in refused)


# The cluster --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "fits"), [("autopilot", True), ("compute-class", True), ("standard", False)]
)
def test_an_autopilot_cluster_makes_no_node_pools(bed: Bed, mode: str, fits: bool) -> None:
    cluster(bed, autopilot=True, image_streaming=False)
    assert ["it is an Autopilot cluster" in e.cause for e in found(bed, mode)] == ([] if fits else [True])


@pytest.mark.parametrize(
    ("mode", "fits"), [("autopilot", False), ("compute-class", True), ("standard", True)]
)
def test_a_standard_cluster_makes_no_nodes_for_labels(bed: Bed, mode: str, fits: bool) -> None:
    cluster(bed, auto_provisioning=False)
    refused = found(bed, mode)
    assert ["it is a Standard cluster" in e.cause for e in refused] == ([] if fits else [True])
    assert all(e.cause.startswith("GKE cluster demo does not fit node_images: ") for e in refused)


@pytest.mark.parametrize(
    ("autopilot", "since"), [(False, "1.28.3-gke.1067000"), (True, "1.30.1-gke.1329000")]
)
def test_an_old_control_plane_is_refused(bed: Bed, autopilot: bool, since: str) -> None:
    cluster(bed, autopilot=autopilot, cluster_version="1.28.3-gke.1066999")
    (refused,) = found(bed)
    assert f"its version 1.28.3-gke.1066999 is older than {since}" in refused.cause
    cluster(bed, autopilot=autopilot, cluster_version=since)
    assert found(bed) == []


@pytest.mark.parametrize(
    ("settings", "since"),
    [
        ({"autopilot": True}, "1.31.2-gke.1105000"),
        ({"auto_provisioning": True}, "1.31.2-gke.1105000"),
        ({"auto_provisioning": False}, "1.33.3-gke.1136000"),
    ],
)
def test_compute_classes_need_a_later_control_plane(bed: Bed, settings: dict[str, bool], since: str) -> None:
    cluster(bed, cluster_version="1.31.2-gke.1104999", **settings)
    (refused,) = found(bed, "compute-class")
    assert f"its version 1.31.2-gke.1104999 is older than {since}" in refused.cause
    cluster(bed, cluster_version=since, **settings)
    assert found(bed, "compute-class") == []


@pytest.mark.parametrize(("mode", "refusals"), [("autopilot", 1), ("compute-class", 1), ("standard", 0)])
def test_image_streaming_that_is_off_is_told_with_what_to_do(bed: Bed, mode: str, refusals: int) -> None:
    """The pools of mode standard switch it on themselves."""
    cluster(bed, image_streaming=False)
    refused = found(bed, mode)
    assert ["--enable-image-streaming" in e.next_action for e in refused] == [True] * refusals
    told = [line for line in bed.run.log if line.startswith("warning ") and "image streaming is off" in line]
    assert len(told) == 1 - refusals


def test_a_cluster_that_may_not_be_read_is_one_refusal_of_several(bed: Bed, host: Host) -> None:
    host.status = 404
    bed.google.control("POST", "faults", kind="api-error", code=403, match="GET .*clusters/demo$", count=1)
    assert [type(e) for e in found(bed)] == [Permanent, Permanent]


# Where the engine's image lies ------------------------------------------------------------------------


def test_an_engine_that_cannot_be_streamed_is_a_warning_and_no_refusal(bed: Bed) -> None:
    assert found(bed) == []
    assert any(
        line.startswith("warning image streaming cannot serve") and "is no Artifact Registry" in line
        for line in bed.run.log
    )


def test_an_engine_in_another_region_is_told_with_both(bed: Bed) -> None:
    near, far = (f"{place}-docker.pkg.dev/demo/llm/engine@{DIGEST}" for place in ("us", "europe"))
    for image in (near, far):
        assert list(preflight_images._near(world(bed, image=image))) == []
    assert [line for line in bed.run.log if line.startswith("warning ")] == [
        f"warning image streaming cannot serve {far}: its registry is in europe, the cluster in us-central1."
    ]
