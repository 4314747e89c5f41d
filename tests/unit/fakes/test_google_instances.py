"""Attaching disks in the fake Compute Engine: who may have which disk, and when it is told."""

from __future__ import annotations

import pytest
from google.api_core import exceptions
from google.cloud import compute_v1

from tests.unit.fakes.google_apis import NODE, PLACE, GoogleApis, codes

IN_USE = ["RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"]


def users(google: GoogleApis, disk: str) -> list[str]:
    return [u.rpartition("/")[2] for u in google.disk(disk).users]


def attached(google: GoogleApis, instance: str = NODE) -> dict[str, str]:
    found = google.instances.get(instance=instance, **PLACE).disks
    return {d.device_name: d.mode for d in found}


def test_an_attached_disk_names_its_user_and_the_instance_its_device(google: GoogleApis) -> None:
    google.made("weights")
    google.done(google.attach("weights", device="model"))
    assert users(google, "weights") == [NODE]
    assert attached(google) == {"model": "READ_WRITE"}
    google.done(google.detach("model"))
    assert users(google, "weights") == []
    assert attached(google) == {}


def test_a_second_writer_fails_inside_the_operation(google: GoogleApis) -> None:
    google.made("weights")
    google.done(google.attach("weights"))
    other = google.second_instance()
    assert codes(google.done(google.attach("weights", other))) == IN_USE
    assert users(google, "weights") == [NODE]


def test_a_sealed_disk_has_many_readers_and_no_writer(google: GoogleApis) -> None:
    google.made("weights")
    google.done(google.update("weights", "accessMode", access_mode="READ_ONLY_MANY"))
    other = google.second_instance()
    with pytest.raises(exceptions.BadRequest, match="READ_ONLY"):
        google.attach("weights", mode="READ_WRITE")
    for instance in (NODE, other):
        google.done(google.attach("weights", instance, mode="READ_ONLY"))
    assert users(google, "weights") == [NODE, other]
    google.done(google.detach("weights", NODE))
    assert users(google, "weights") == [other]


def test_an_unsealed_disk_has_one_reader_only(google: GoogleApis) -> None:
    google.made("weights")
    google.done(google.attach("weights", mode="READ_ONLY"))
    assert codes(google.done(google.attach("weights", google.second_instance(), mode="READ_ONLY"))) == IN_USE


def test_a_disk_that_is_still_being_made_is_not_attached(google: GoogleApis) -> None:
    google.control("POST", "faults", kind="op-stuck", match="^insert", count=1)
    google.insert("weights")
    with pytest.raises(exceptions.BadRequest, match="not ready"):
        google.attach("weights")
    google.control("POST", "release")


def test_a_device_name_is_used_once_on_an_instance(google: GoogleApis) -> None:
    google.made("one")
    google.made("two")
    google.done(google.attach("one", device="model"))
    with pytest.raises(exceptions.BadRequest, match="deviceName"):
        google.attach("two", device="model")


def test_what_is_not_attached_is_not_detached(google: GoogleApis) -> None:
    with pytest.raises(exceptions.BadRequest, match="No attached disk found with device name 'model'"):
        google.detach("model")


def test_a_disk_of_another_zone_is_refused(google: GoogleApis) -> None:
    elsewhere = compute_v1.Disk(name="far", size_gb=10, type_="zones/us-central1-b/diskTypes/hyperdisk-ml")
    google.disks.insert(project="demo", zone="us-central1-b", disk_resource=elsewhere)
    wanted = compute_v1.AttachedDisk(source="projects/demo/zones/us-central1-b/disks/far")
    with pytest.raises(exceptions.BadRequest, match="zone of the instance"):
        google.instances.attach_disk(instance=NODE, attached_disk_resource=wanted, **PLACE)


def builder(boot_size: int = 10, machine: str = "e2-standard-4") -> compute_v1.Instance:
    boot = compute_v1.AttachedDisk(
        boot=True,
        auto_delete=True,
        initialize_params=compute_v1.AttachedDiskInitializeParams(
            disk_size_gb=boot_size, source_image="projects/cos-cloud/global/images/family/cos-stable"
        ),
    )
    return compute_v1.Instance(
        name="builder", machine_type=f"zones/us-central1-a/machineTypes/{machine}", disks=[boot]
    )


def test_an_instance_brings_its_boot_disk_and_takes_it_along(google: GoogleApis) -> None:
    google.done(google.instances.insert(instance_resource=builder(), **PLACE))
    assert google.instances.get(instance="builder", **PLACE).status == "RUNNING"
    assert users(google, "builder") == ["builder"]
    google.done(google.instances.delete(instance="builder", **PLACE))
    assert "builder" not in {d.name for d in google.disks.list(**PLACE)}
    assert {i.name for i in google.instances.list(**PLACE)} == {NODE}


def test_a_stock_out_is_told_by_the_operation_and_leaves_nothing(google: GoogleApis) -> None:
    google.control("POST", "faults", kind="stockout", match="^insert .*/instances/", count=1)
    failed = google.done(google.instances.insert(instance_resource=builder(), **PLACE))
    assert codes(failed) == ["ZONE_RESOURCE_POOL_EXHAUSTED"]
    assert list(google.disks.list(**PLACE)) == []
    assert {i.name for i in google.instances.list(**PLACE)} == {NODE}


def test_a_refused_instance_leaves_no_disk_behind(google: GoogleApis) -> None:
    wanted = builder()
    missing = compute_v1.AttachedDisk(source="zones/us-central1-a/disks/none")
    wanted.disks.append(missing)
    with pytest.raises(exceptions.NotFound):
        google.instances.insert(instance_resource=wanted, **PLACE)
    assert list(google.disks.list(**PLACE)) == []


def test_a_machine_type_that_the_zone_lacks_is_refused(google: GoogleApis) -> None:
    with pytest.raises(exceptions.BadRequest, match="machineType"):
        google.instances.insert(
            project="demo",
            zone="us-central1-f",
            instance_resource=compute_v1.Instance(name="x", machine_type="g2-standard-24"),
        )


def test_serial_output_is_read_on_from_an_offset(google: GoogleApis) -> None:
    machine = google.folder / "state" / "machines" / NODE
    machine.mkdir(parents=True)
    (machine / "serial.log").write_text("booted\nunpacked\n")
    first = google.instances.get_serial_port_output(instance=NODE, **PLACE)
    assert (first.contents, first.next_) == ("booted\nunpacked\n", 16)
    request = compute_v1.GetSerialPortOutputInstanceRequest(instance=NODE, start=7, **PLACE)
    assert google.instances.get_serial_port_output(request=request).contents == "unpacked\n"
