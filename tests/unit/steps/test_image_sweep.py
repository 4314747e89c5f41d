"""Disk images that nothing names go; whatever may still ask for one keeps it, in any cluster of the project."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_release.clients.store import Store, connect
from llm_release.core import bootdisk, nodeplace
from llm_release.core.clusterspec import NodeImages
from llm_release.core.errors import Permanent, ReleaseError, Transient
from llm_release.core.names import LIVE, PREVIOUS, RELEASE
from llm_release.core.request import ImageRequest
from llm_release.core.strict import encode
from llm_release.steps import image_sweep, manifests
from llm_release.steps.image_request import Resolved
from llm_release.steps.image_sweep import Swept
from llm_release.steps.world import Skipped, Surroundings
from tests.unit.fakes.google_apis import GoogleApis
from tests.unit.support.bed import Bed
from tests.unit.support.kube_api import KINDS, NAMESPACE, KubeApi
from tests.unit.support.release import DIGEST, release
from tests.unit.support.world import HOME, Connected, Run

SWEEP = ImageRequest(images=(), sweep=True)
OLD = bootdisk.Names(DIGEST)
OTHER = bootdisk.Names("sha256:" + "f" * 64)


class Project:
    """The clusters demo and far, each with a service of its name, and images that are older than the least age."""

    def __init__(self, beds: dict[str, Bed], home: Path) -> None:
        self.beds, self.home = beds, home
        self.facts: dict[str, Any] = {}
        self.node_images: dict[str, NodeImages | None] = {
            "demo": NodeImages(mode="autopilot", zone="us-central1-a", subnetwork="s"),
            "far": None,
        }
        (home / "include/services").mkdir(parents=True)
        text = (HOME / "include/services/sim.yaml").read_text()
        for cluster, service in (("demo", "sim"), ("far", "away")):
            body = text.replace("service: sim", f"service: {service}").replace(
                "cluster: demo", f"cluster: {cluster}"
            )
            (home / f"include/services/{service}.yaml").write_text(body)

    def at(self, cluster: str) -> Surroundings:
        return Surroundings(
            cluster=dataclasses.replace(
                manifests.cluster(HOME, "demo"), cluster=cluster, node_images=self.node_images[cluster]
            ),
            connect=self.beds[cluster].run.connect,
            home=self.home,
            holder="node_image/one",
            facts=self.facts.get,
            log=self.beds["demo"].run.log.append,
        )

    def swept(self, request: ImageRequest = SWEEP) -> Swept:
        return image_sweep.run(self.at("demo"), request, [self.at(name) for name in self.beds])

    @property
    def log(self) -> str:
        return "\n".join(self.beds["demo"].run.log)

    # What is there --------------------------------------------------------------------------------

    def image(self, names: bootdisk.Names, *, days: float = 30, **labels: str) -> str:
        made = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
        self.put(names.image, {**names.labels, bootdisk.VERIFIED: "true", **labels}, made.isoformat())
        return names.image

    def disk(
        self, name: str, *, days: float = 30, zone: str = "us-central1-a", users: tuple[str, ...] = ()
    ) -> str:
        """As a build leaves it. -> as it is told"""
        cloud = self.beds["demo"].google.cloud
        assert cloud is not None
        made = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
        place = f"projects/demo/zones/{zone}"
        with cloud.state.changing() as held:
            held.resources[f"{place}/disks/{name}"] = {
                "kind": "compute#disk",
                "name": name,
                "zone": place,
                "type": f"{place}/diskTypes/pd-balanced",
                "sizeGb": "10",
                "status": "READY",
                "labels": OLD.labels,
                "users": [f"{place}/instances/{user}" for user in users],
                "creationTimestamp": made.isoformat(),
            }
        return f"{zone}/{name}"

    def disks(self) -> set[str]:
        cloud = self.beds["demo"].google.cloud
        assert cloud is not None
        return {
            key.removeprefix("projects/demo/zones/") for key in cloud.state.held.resources if "/disks/" in key
        }

    def put(self, name: str, labels: dict[str, str], created: str) -> None:
        cloud = self.beds["demo"].google.cloud
        assert cloud is not None
        with cloud.state.changing() as held:
            held.resources[f"projects/demo/global/images/{name}"] = {
                "kind": "compute#image",
                "name": name,
                "status": "READY",
                "labels": labels,
                "creationTimestamp": created,
            }

    def images(self) -> set[str]:
        cloud = self.beds["demo"].google.cloud
        assert cloud is not None
        return {r["name"] for _, r in cloud.state.under("projects/demo/global/images")}

    def service(self, cluster: str, name: str, *, selected: str = "", **releases: str) -> None:
        """Keywords: live, previous."""
        annotations = {{"live": LIVE, "previous": PREVIOUS}[k]: v for k, v in releases.items()}
        spec = {"selector": {RELEASE: selected or releases.get("live", "")}}
        self.beds[cluster].api.put("v1", "Service", name, metadata={"annotations": annotations}, spec=spec)

    def record(self, cluster: str, service: str, id: str, digest: str) -> None:
        made = release(service, id=id, image=f"registry.example/engine@{digest}")
        self.text(cluster, service, id, json.dumps({"release": encode(made)}))

    def text(self, cluster: str, service: str, id: str, text: str) -> None:
        self.beds[cluster].run.connect.store().write_text(f"{service}/{id}/record.json", text)

    def compute_class(self, cluster: str, name: str, spec: dict[str, Any]) -> None:
        self.beds[cluster].api.put("cloud.google.com/v1", "ComputeClass", name, spec=spec)

    def pool(self, cluster: str, name: str, image: str, mode: str = "CONTAINER_IMAGE_CACHE") -> None:
        cloud = self.beds[cluster].google.cloud
        assert cloud is not None
        disk = {"diskImage": f"projects/demo/global/images/{image}", "mode": mode}
        with cloud.state.changing() as held:
            held.resources[f"projects/demo/locations/us-central1/clusters/demo/nodePools/{name}"] = {
                "name": name,
                "status": "RUNNING",
                "config": {"secondaryBootDisks": [disk]},
            }


@pytest.fixture
def project(bed: Bed, gcs: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    folder = tmp_path / "far"
    folder.mkdir()
    google, api = GoogleApis(folder), KubeApi()
    google.start()
    api.start()
    api.put("v1", "Namespace", NAMESPACE)
    store = Store("llm-releases", f"{request.node.name}-far", connect(gcs, project="demo"))
    far = Bed(Run(Connected(api.client(folder), store, google)), api, google)
    bed.lease("sim", "")
    assert bed.google.cloud is not None
    with bed.google.cloud.state.changing() as held:
        held.resources.pop(f"projects/demo/global/images/{OLD.image}")  # it has no labels
    yield Project({"demo": bed, "far": far}, tmp_path / "home")
    api.stop()
    google.stop()


def test_it_is_skipped_unless_it_is_asked_for(project: Project) -> None:
    project.image(OLD)
    with pytest.raises(Skipped):
        project.swept(ImageRequest(images=("host/engine:v1",)))
    assert project.images() == {OLD.image}


def test_what_nothing_names_is_deleted(project: Project) -> None:
    project.image(OLD)
    project.image(OTHER)
    assert project.swept() == Swept((OLD.image, OTHER.image), {})
    assert project.images() == set()
    assert f"deleting image={OLD.image}: nothing names it" in project.log


def test_a_second_sweep_finds_nothing(project: Project) -> None:
    project.image(OLD)
    project.swept()
    assert project.swept() == Swept((), {})


def test_each_that_stays_is_told_with_the_reason(project: Project) -> None:
    project.image(OLD, days=2)
    project.image(OTHER)
    assert project.swept() == Swept((OTHER.image,), {OLD.image: "is younger than 7 days"})
    assert f"kept {OLD.image}: is younger than 7 days" in project.log


def test_one_that_is_not_verified_goes_after_a_day(project: Project) -> None:
    project.image(OLD, days=2, **{bootdisk.VERIFIED: ""})
    assert project.swept().deleted == (OLD.image,)


def test_images_that_are_not_ours_stay(project: Project) -> None:
    old = "2020-01-01T00:00:00Z"
    project.put("llmr-engine-backup", OLD.labels, old)
    project.put("debian", {}, old)
    assert project.swept() == Swept((), {"llmr-engine-backup": "has no label of ours for that name"})
    assert project.images() == {"llmr-engine-backup", "debian"}


def test_the_runs_own_image_stays(project: Project) -> None:
    project.image(OLD)
    project.facts[Resolved.STEP] = encode(Resolved(("x",), "us-central1-a", "s", 0, OLD.image))
    assert project.swept().kept == {OLD.image: "is this run's own"}


# Who names an image -------------------------------------------------------------------------------


@pytest.mark.parametrize("cluster", ["demo", "far"])
@pytest.mark.parametrize(
    "selector",
    [
        OLD.node_selector("demo"),
        {nodeplace.POOL: "llmr-0123456789ab-00000000"},
        {nodeplace.CLASS: "llmr-0123456789ab-00000000"},
    ],
)
def test_a_deployment_keeps_its_image(project: Project, cluster: str, selector: dict[str, str]) -> None:
    project.image(OLD)
    project.image(OTHER)
    project.beds[cluster].deployment("x", selector)
    kept = {OLD.image: f"named by Deployment llm/x in cluster {cluster}"}
    assert project.swept() == Swept((OTHER.image,), kept)


@pytest.mark.parametrize("cluster", ["demo", "far"])
def test_a_stateful_set_keeps_its_image(project: Project, cluster: str) -> None:
    project.image(OLD)
    spec = {"template": {"spec": {"nodeSelector": OLD.node_selector("demo")}}}
    project.beds[cluster].api.put("apps/v1", "StatefulSet", "x", spec=spec)
    assert project.swept().kept == {OLD.image: f"named by StatefulSet llm/x in cluster {cluster}"}


@pytest.mark.parametrize(("phase", "stays"), [("Running", True), ("Pending", True), ("Succeeded", False)])
def test_a_pod_keeps_its_image_until_it_has_finished(project: Project, phase: str, stays: bool) -> None:
    project.image(OLD)
    spec = {"nodeSelector": OLD.node_selector("demo")}
    project.beds["far"].api.put("v1", "Pod", "x", spec=spec, status={"phase": phase})
    assert project.swept().kept == ({OLD.image: "named by Pod llm/x in cluster far"} if stays else {})


def test_an_image_that_a_person_asked_for_stays(project: Project) -> None:
    project.image(OLD, **{bootdisk.ASKED: "true"})
    assert project.swept().kept == {OLD.image: "was asked for by a person: delete it by hand"}


@pytest.mark.parametrize("busy", [False, True])
def test_the_facts_stay_small_and_the_log_whole(project: Project, busy: bool) -> None:
    names = [project.image(bootdisk.Names("sha256:" + f"{n:02d}" * 32), days=1) for n in range(60)]
    if busy:
        project.beds["far"].lease("away", "release__away/two")
    assert list(project.swept().kept) == sorted(names)[:50]
    assert all(f"kept {name}: " in project.log for name in names)


@pytest.mark.parametrize("cluster", ["demo", "far"])
def test_a_compute_class_keeps_its_image_whosever_it_is(project: Project, cluster: str) -> None:
    project.image(OLD)
    disks = [{"diskImageName": OLD.image, "project": "demo"}]
    project.compute_class(cluster, "theirs", {"priorities": [{"storage": {"secondaryBootDisks": disks}}]})
    assert project.swept().kept == {OLD.image: f"named by ComputeClass theirs in cluster {cluster}"}


@pytest.mark.parametrize("cluster", ["demo", "far"])
@pytest.mark.parametrize("mode", ["CONTAINER_IMAGE_CACHE", "MODE_UNSPECIFIED"])
def test_a_node_pool_keeps_its_image_whosever_it_is(project: Project, cluster: str, mode: str) -> None:
    project.image(OLD)
    project.pool(cluster, "theirs", OLD.image, mode)
    assert project.swept().kept == {OLD.image: f"named by node pool theirs in cluster {cluster}"}


@pytest.mark.parametrize(
    ("releases", "kind"),
    [
        ({"live": "aaaaaaaaaa"}, "live"),
        ({"live": "bbbbbbbbbb", "previous": "aaaaaaaaaa"}, "previous"),
        ({"live": "bbbbbbbbbb", "selected": "aaaaaaaaaa"}, "selected"),
    ],
)
@pytest.mark.parametrize(("cluster", "service"), [("demo", "sim"), ("far", "away"), ("far", "file-is-gone")])
def test_a_release_that_can_serve_keeps_its_image(
    project: Project, cluster: str, service: str, releases: dict[str, str], kind: str
) -> None:
    project.image(OLD)
    project.image(OTHER)
    project.service(cluster, service, **releases)
    project.record(cluster, service, "aaaaaaaaaa", DIGEST)
    project.record(cluster, service, "bbbbbbbbbb", "sha256:" + "9" * 64)
    why = f"named by the record of the {kind} release aaaaaaaaaa of {service} in cluster {cluster}"
    assert project.swept() == Swept((OTHER.image,), {OLD.image: why})


def test_a_service_that_is_none_of_ours_is_not_asked_for_records(project: Project) -> None:
    project.image(OLD)
    project.service("demo", "somebodys")
    assert project.swept().deleted == (OLD.image,)


# When nothing goes --------------------------------------------------------------------------------


@pytest.mark.parametrize(("cluster", "service"), [("demo", "sim"), ("far", "away")])
def test_nothing_goes_while_a_service_is_being_released(project: Project, cluster: str, service: str) -> None:
    """Its record may not be there yet either."""
    project.image(OLD)
    project.beds[cluster].lease(service, "release__x/two")
    project.service(cluster, service, live="aaaaaaaaaa")
    why = f"{service} is being released by release__x/two in cluster {cluster}"
    assert project.swept() == Swept((), {OLD.image: why})
    assert project.images() == {OLD.image}
    assert f"nothing is deleted: {why}" in project.log


def test_a_release_that_begins_meanwhile_keeps_the_rest(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.image(OLD)
    project.image(OTHER)
    delete = image_sweep._delete

    def deleted(at: Surroundings, name: str) -> bool:
        project.beds["far"].lease("away", "release__away/two")
        return delete(at, name)

    monkeypatch.setattr(image_sweep, "_delete", deleted)
    why = "away is being released by release__away/two in cluster far"
    assert project.swept() == Swept((OLD.image,), {OTHER.image: why})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "is missing"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"release": {"image": "host/engine:v1"}}', "names no engine image by digest"),
    ],
)
def test_nothing_goes_when_a_record_cannot_be_read(project: Project, text: str | None, problem: str) -> None:
    project.image(OLD)
    project.service("far", "away", live="aaaaaaaaaa")
    if text is not None:
        project.text("far", "away", "aaaaaaaaaa", text)
    with pytest.raises(Permanent, match=f"disk images were left: cluster far .*record.json.*{problem}"):
        project.swept()
    assert project.images() == {OLD.image}


@pytest.mark.parametrize(("code", "kind"), [(429, Transient), (403, Permanent)])
def test_nothing_goes_when_gke_does_not_list_the_pools(
    project: Project, code: int, kind: type[ReleaseError]
) -> None:
    project.image(OLD)
    project.beds["far"].google.control("POST", "faults", kind="api-error", code=code, match="GET .*nodePools")
    with pytest.raises(kind, match="disk images were left: cluster far does not tell what it needs"):
        project.swept()
    assert project.images() == {OLD.image}


def test_nothing_goes_when_a_cluster_does_not_answer(project: Project) -> None:
    project.image(OLD)
    project.beds["far"].api.stop()
    with pytest.raises(ReleaseError, match="disk images were left: cluster far") as failed:
        project.swept()
    assert not isinstance(failed.value, Permanent)
    assert project.images() == {OLD.image}


def test_nothing_goes_when_a_services_file_is_wrong(project: Project) -> None:
    project.image(OLD)
    (project.home / "include/services/away.yaml").write_text("service: away\n")
    with pytest.raises(Permanent, match="disk images were left"):
        project.swept()
    assert project.images() == {OLD.image}


def test_a_cluster_that_knows_no_compute_classes_has_none(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.image(OLD)
    monkeypatch.delitem(KINDS, "cloud.google.com/v1")
    assert project.swept().deleted == (OLD.image,)


# Disks that builds left ---------------------------------------------------------------------------


def test_disks_that_builds_left_go(project: Project) -> None:
    names = (OLD.builder, f"{OLD.builder}-boot", OLD.verifier, f"{OLD.verifier}-boot")
    left = tuple(project.disk(name) for name in names)
    assert project.swept() == Swept(left, {})
    assert project.disks() == set()
    assert f"deleting disk={left[0]}: a build has left it" in project.log


def test_a_young_disk_or_one_in_use_stays(project: Project) -> None:
    young = project.disk(OLD.builder, days=0.9)
    used = project.disk(OLD.verifier, users=("machine",))
    assert project.swept() == Swept((), {young: "is younger than 1 day", used: "is in use by machine"})


def test_other_disks_of_ours_are_none_of_the_sweeps(project: Project) -> None:
    project.disk("sim-0123456789")
    assert project.swept() == Swept((), {})
    assert project.disks() == {"us-central1-a/disks/sim-0123456789"}


def test_every_zone_is_looked_at_that_a_cluster_builds_in(project: Project) -> None:
    left = project.disk(OLD.builder, zone="us-central1-b")
    assert project.swept() == Swept((), {})
    project.node_images["far"] = NodeImages(mode="autopilot", zone="us-central1-b", subnetwork="s")
    assert project.swept() == Swept((left,), {})


def test_no_disk_goes_while_a_service_is_being_released(project: Project) -> None:
    left = project.disk(OLD.builder)
    project.beds["far"].lease("away", "release__away/two")
    why = "away is being released by release__away/two in cluster far"
    assert project.swept() == Swept((), {left: why})


def test_nothing_goes_when_disks_may_not_be_listed(project: Project) -> None:
    project.image(OLD)
    google = project.beds["demo"].google
    google.control("POST", "faults", kind="api-error", code=403, match="GET .*/disks", count=1)
    with pytest.raises(Permanent, match="list disks in us-central1-a"):
        project.swept()
    assert project.images() == {OLD.image}


def test_a_disk_that_somebody_begins_to_use_stays(project: Project) -> None:
    left = project.disk(OLD.builder)
    google = project.beds["demo"].google
    reason = "resourceInUseByAnotherResource"
    google.control("POST", "faults", kind="api-error", code=400, reason=reason, match="DELETE", count=1)
    found = project.swept()
    assert (found.deleted, list(found.kept)) == ((), [left])
    assert project.disks()


def test_a_disk_that_vanished_is_no_error(project: Project) -> None:
    left = project.disk(OLD.builder)
    google = project.beds["demo"].google
    google.control("POST", "faults", kind="api-error", code=404, reason="notFound", match="DELETE", count=1)
    assert project.swept() == Swept((), {})
    assert f"disk={left} is gone already" in project.log


# Deleting -----------------------------------------------------------------------------------------


def test_an_image_that_vanished_is_no_error(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.image(OLD)
    delete = image_sweep._delete

    def late(at: Surroundings, name: str) -> bool:
        at.machines.delete_image(name)
        return delete(at, name)

    monkeypatch.setattr(image_sweep, "_delete", late)
    assert project.swept() == Swept((), {})
    assert f"image={OLD.image} is gone already" in project.log


def test_a_right_that_is_missing_is_told(project: Project) -> None:
    project.image(OLD)
    said = "Required 'compute.images.delete' permission"
    google = project.beds["demo"].google
    google.control("POST", "faults", kind="api-error", code=403, message=said, match="DELETE", count=1)
    with pytest.raises(Permanent, match=said):
        project.swept()
