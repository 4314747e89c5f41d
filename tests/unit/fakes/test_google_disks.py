"""Disks of the fake Compute Engine, seen by the real client: its rules are the ones a release relies on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import compute_v1

from tests.unit.fakes.google_apis import HDML, NODE, PLACE, GoogleApis, codes, reasons


def test_a_disk_is_created_and_then_ready(google: GoogleApis) -> None:
    google.control("POST", "faults", kind="op-latency", seconds=0.3)
    started = google.insert("weights", labels={"release": "abc"})
    assert google.disk("weights").status == "CREATING"
    google.done(started)
    disk = google.disk("weights")
    assert (disk.status, disk.size_gb, disk.provisioned_throughput) == ("READY", 10, 400)
    assert disk.access_mode == "READ_WRITE_SINGLE"
    assert disk.type_.endswith(HDML)
    assert disk.id > 10**17
    assert dict(disk.labels) == {"release": "abc"}


def test_sealing_takes_a_detached_disk_and_cannot_be_undone(google: GoogleApis) -> None:
    google.made("weights")
    google.done(google.attach("weights"))
    with pytest.raises(exceptions.BadRequest) as attached:
        google.update("weights", "accessMode", access_mode="READ_ONLY_MANY")
    assert reasons(attached.value) == ["resourceInUseByAnotherResource"]
    google.done(google.detach("weights"))
    google.done(google.update("weights", "accessMode", access_mode="READ_ONLY_MANY"))
    assert google.disk("weights").access_mode == "READ_ONLY_MANY"
    with pytest.raises(exceptions.BadRequest, match="cannot be changed from READ_ONLY_MANY"):
        google.update("weights", "accessMode", access_mode="READ_WRITE_SINGLE")
    google.done(google.update("weights", "accessMode", access_mode="READ_ONLY_MANY"))


def test_a_disk_that_was_attached_meanwhile_fails_inside_the_operation(google: GoogleApis) -> None:
    google.made("weights")
    google.control("POST", "faults", kind="op-stuck", match="^update", count=1)
    sealing = google.update("weights", "accessMode", access_mode="READ_ONLY_MANY")
    google.done(google.attach("weights"))
    google.control("POST", "release")
    assert codes(google.done(sealing)) == ["RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"]
    assert google.disk("weights").access_mode == "READ_WRITE_SINGLE"


def test_only_the_named_paths_are_changed(google: GoogleApis) -> None:
    google.made("weights", labels={"a": "1"})
    google.done(google.update("weights", "labels", labels={"b": "2"}, access_mode="READ_ONLY_MANY"))
    disk = google.disk("weights")
    assert (dict(disk.labels), disk.access_mode) == ({"b": "2"}, "READ_WRITE_SINGLE")
    with pytest.raises(exceptions.BadRequest, match="cannot be updated"):
        google.update("weights", "type", type_=HDML)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": "Weights"}, "resource.name"),
    ({"name": "a" * 64}, "resource.name"),
    ({"name": "weights-"}, "resource.name"),
    ({"size_gb": 3}, "resource.sizeGb"),
    ({"size_gb": 65537}, "resource.sizeGb"),
    ({"provisioned_throughput": 399}, "provisionedThroughput"),
    ({"provisioned_throughput": 16001}, "provisionedThroughput"),
    ({"size_gb": 5000, "provisioned_throughput": 599}, "provisionedThroughput"),
    ({"access_mode": "READ_WRITE_MANY"}, "accessMode"),
    ({"type_": "zones/us-central1-a/diskTypes/hyperdisk-xl"}, "resource.type"),
    ({"type_": "zones/us-central1-b/diskTypes/hyperdisk-ml"}, "resource.type"),
    ({"labels": {"a/b": "c"}}, "resource.labels"),
    ({"labels": {"a": "C"}}, "resource.labels"),
]


@pytest.mark.parametrize(("fields", "named"), BAD, ids=[str(f)[:40] for f, _ in BAD])
def test_a_wrong_field_is_refused_and_named(google: GoogleApis, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(exceptions.BadRequest, match=named):
        google.insert(fields.pop("name", "weights"), **fields)
    assert list(google.disks.list(**PLACE)) == []


def test_a_field_that_compute_does_not_have_is_refused(google: GoogleApis) -> None:
    token = "bearer-of-the-cluster"
    with pytest.raises(OSError, match="400") as refused:
        google.http(
            "POST",
            "/compute/beta/projects/demo/zones/us-central1-a/disks",
            {"name": "weights", "sizeGiB": "10"},
            token,
        )
    assert b"sizeGiB" in refused.value.read()  # type: ignore[attr-defined]


def test_defaults_are_those_of_hyperdisk_ml(google: GoogleApis) -> None:
    disk = google.made("weights", size_gb=None, provisioned_throughput=None)
    assert (disk.size_gb, disk.provisioned_throughput) == (100, 2400)


def test_quota_is_counted_by_region_and_told_by_regions_get(google: GoogleApis) -> None:
    google.control("POST", "faults", kind="quota", metric="HDML_TOTAL_THROUGHPUT", limit=1000)
    google.made("one", provisioned_throughput=800)
    with pytest.raises(exceptions.Forbidden, match="HDML_TOTAL_THROUGHPUT") as refused:
        google.insert("two", provisioned_throughput=400)
    assert reasons(refused.value) == ["quotaExceeded"]
    region = google.client(compute_v1.RegionsClient).get(project="demo", region="us-central1")
    told = next(q for q in region.quotas if q.metric == "HDML_TOTAL_THROUGHPUT")
    assert (told.limit, told.usage) == (1000, 800)


def test_the_same_name_twice_is_a_conflict(google: GoogleApis) -> None:
    google.made("weights")
    with pytest.raises(exceptions.Conflict) as refused:
        google.insert("weights")
    assert reasons(refused.value) == ["alreadyExists"]


def test_a_disk_in_use_is_not_deleted(google: GoogleApis) -> None:
    google.made("weights")
    google.done(google.attach("weights"))
    with pytest.raises(exceptions.BadRequest, match=f"already being used by .*/instances/{NODE}'") as refused:
        google.disks.delete(disk="weights", **PLACE)
    assert reasons(refused.value) == ["resourceInUseByAnotherResource"]
    google.done(google.detach("weights"))
    google.done(google.disks.delete(disk="weights", **PLACE))
    with pytest.raises(exceptions.NotFound):
        google.disk("weights")


def test_resize_grows_only(google: GoogleApis) -> None:
    google.made("weights")
    bigger = compute_v1.DisksResizeRequest(size_gb=20)
    google.done(google.disks.resize(disk="weights", disks_resize_request_resource=bigger, **PLACE))
    assert google.disk("weights").size_gb == 20
    with pytest.raises(exceptions.BadRequest, match="larger than 20"):
        google.disks.resize(disk="weights", disks_resize_request_resource=bigger, **PLACE)


def test_labels_are_set_by_whoever_read_them_last(google: GoogleApis) -> None:
    read = google.made("weights", labels={"a": "1"}).label_fingerprint

    def label(value: str) -> Any:
        wanted = compute_v1.ZoneSetLabelsRequest(labels={"a": value}, label_fingerprint=read)
        return google.disks.set_labels(resource="weights", zone_set_labels_request_resource=wanted, **PLACE)

    google.done(label("2"))
    with pytest.raises(exceptions.PreconditionFailed):
        label("3")
    assert dict(google.disk("weights").labels) == {"a": "2"}


def test_a_copy_of_a_sealed_disk_can_only_be_read(google: GoogleApis) -> None:
    google.made("weights")
    google.done(
        google.disks.create_snapshot(disk="weights", snapshot_resource=compute_v1.Snapshot(name="s"), **PLACE)
    )
    source = "projects/demo/global/snapshots/s"
    with pytest.raises(exceptions.BadRequest, match="READ_ONLY_MANY"):
        google.insert("copy", source_snapshot=source)
    copy = google.made("copy", source_snapshot=source, access_mode="READ_ONLY_MANY")
    assert copy.source_snapshot_id == str(
        google.client(compute_v1.SnapshotsClient).get(project="demo", snapshot="s").id
    )


def test_an_image_needs_a_detached_disk(google: GoogleApis) -> None:
    google.made("weights")
    google.done(google.attach("weights"))
    images = google.client(compute_v1.ImagesClient)
    wanted = compute_v1.Image(
        name="i", family="f", source_disk="projects/demo/zones/us-central1-a/disks/weights"
    )
    with pytest.raises(exceptions.BadRequest):
        images.insert(project="demo", image_resource=wanted)
    google.done(google.detach("weights"))
    started = images.insert(project="demo", image_resource=wanted)
    google.client(compute_v1.GlobalOperationsClient).wait(project="demo", operation=started.name)
    assert images.get_from_family(project="demo", family="f").name == "i"
    assert images.get(project="demo", image="i").status == "READY"


def test_a_source_that_does_not_exist_is_not_found(google: GoogleApis) -> None:
    with pytest.raises(exceptions.NotFound, match="global/snapshots/none"):
        google.insert("copy", source_snapshot="projects/demo/global/snapshots/none")


LISTS: list[tuple[str, list[str]]] = [
    ("", ["a1", "a2", "b1"]),
    ("name=a1", ["a1"]),
    ("name!=a1", ["a2", "b1"]),
    ("name:a*", ["a1", "a2"]),
    ("name eq a.*", ["a1", "a2"]),
    ("labels.team=x", ["a1", "b1"]),
    ("labels.team:*", ["a1", "a2", "b1"]),
    ('(labels.team="x") (name:a*)', ["a1"]),
    ("labels.team=x AND status=READY", ["a1", "b1"]),
    ("sizeGb=20", ["b1"]),
]


@pytest.mark.parametrize(("expression", "names"), LISTS, ids=[e or "none" for e, _ in LISTS])
def test_lists_are_filtered(google: GoogleApis, expression: str, names: list[str]) -> None:
    for name, team, size in (("a1", "x", 10), ("a2", "y", 10), ("b1", "x", 20)):
        google.made(name, labels={"team": team}, size_gb=size)
    request = compute_v1.ListDisksRequest(filter=expression, max_results=2, **PLACE)
    assert [d.name for d in google.disks.list(request=request)] == names


def test_a_filter_that_is_not_understood_is_refused(google: GoogleApis) -> None:
    request = compute_v1.ListDisksRequest(filter="name~a", **PLACE)
    with pytest.raises(exceptions.BadRequest, match="filter"):
        list(google.disks.list(request=request))


def test_pages_hold_each_disk_once(google: GoogleApis) -> None:
    names = [f"d{n}" for n in range(7)]
    for name in names:
        google.made(name)
    pages = list(google.disks.list(request=compute_v1.ListDisksRequest(max_results=3, **PLACE)).pages)
    assert [len(p.items) for p in pages] == [3, 3, 1]
    assert [d.name for p in pages for d in p.items] == names


def test_the_aggregated_list_names_every_place(google: GoogleApis) -> None:
    google.made("weights")
    found = dict(google.disks.aggregated_list(project="demo"))
    assert [d.name for d in found["zones/us-central1-a"].disks] == ["weights"]
    assert found["zones/us-central1-b"].warning.code == "NO_RESULTS_ON_PAGE"


@pytest.mark.parametrize(
    "call",
    [
        lambda g: g.disks.get(disk="none", **PLACE),
        lambda g: g.disks.delete(disk="none", **PLACE),
        lambda g: g.disks.list(project="demo", zone="mars-a"),
        lambda g: g.client(compute_v1.ZonesClient).get(project="demo", zone="mars-a"),
        lambda g: g.client(compute_v1.ZoneOperationsClient).get(operation="none", **PLACE),
    ],
)
def test_what_is_not_there_is_not_found(google: GoogleApis, call: Callable[[GoogleApis], Any]) -> None:
    with pytest.raises(exceptions.NotFound):
        call(google)


def test_what_a_zone_offers(google: GoogleApis) -> None:
    zones = [z.name for z in google.client(compute_v1.ZonesClient).list(project="demo")]
    assert {"us-central1-a", "us-central1-f", "us-east4-a"} <= set(zones)
    with_l4 = [
        z
        for z in zones
        if "nvidia-l4"
        in {a.name for a in google.client(compute_v1.AcceleratorTypesClient).list(project="demo", zone=z)}
    ]
    assert "us-central1-a" in with_l4
    assert "us-central1-f" not in with_l4
    machine = google.client(compute_v1.MachineTypesClient).get(machine_type="g2-standard-24", **PLACE)
    assert machine.guest_cpus == 24
    assert machine.accelerators[0].guest_accelerator_count == 2
    kind = google.client(compute_v1.DiskTypesClient).get(disk_type="hyperdisk-ml", **PLACE)
    assert kind.valid_disk_size == "4GB-65536GB"
