"""Operations of the fake Compute Engine: they run later, fail inside, count once, and outlive a restart."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import compute_v1

from tests.unit.fakes.google_apis import EMAIL, HDML, PLACE, GoogleApis, codes

RUNNING = compute_v1.Operation.Status.RUNNING


def operation(google: GoogleApis, name: str) -> Any:
    return google.client(compute_v1.ZoneOperationsClient).get(operation=name, **PLACE)


def insert_once(google: GoogleApis, request_id: str, name: str = "weights") -> Any:
    wanted = compute_v1.Disk(name=name, size_gb=10, type_=HDML, provisioned_throughput=400)
    request = compute_v1.InsertDiskRequest(disk_resource=wanted, request_id=request_id, **PLACE)
    return google.disks.insert(request=request)


def test_an_operation_runs_until_its_time_has_come(google: GoogleApis) -> None:
    google.control("POST", "faults", kind="op-latency", seconds=0.3)
    started = google.insert("weights")
    assert operation(google, started.name).status == RUNNING
    finished = google.done(started)
    assert finished.progress == 100
    assert finished.user == EMAIL
    assert finished.target_id == google.disk("weights").id


def test_an_injected_error_is_in_the_finished_operation_only(google: GoogleApis) -> None:
    google.control(
        "POST", "faults", kind="op-error", reason="QUOTA_EXCEEDED", message="no", code=403, count=1
    )
    started = google.insert("weights")
    assert codes(google.done(started)) == ["QUOTA_EXCEEDED"]
    with pytest.raises(exceptions.NotFound):
        google.disk("weights")
    assert codes(google.done(google.insert("weights"))) == []


def test_a_delete_that_fails_leaves_the_disk_as_it_was(google: GoogleApis) -> None:
    google.made("weights")
    google.control("POST", "faults", kind="op-error", reason="INTERNAL_ERROR", match="^delete", count=1)
    assert codes(google.done(google.disks.delete(disk="weights", **PLACE))) == ["INTERNAL_ERROR"]
    assert google.disk("weights").status == "READY"


def test_a_stuck_operation_goes_on_when_it_is_released(google: GoogleApis) -> None:
    google.control("POST", "faults", kind="op-stuck", match="^insert", count=1)
    started = google.insert("weights")
    time.sleep(0.2)
    assert operation(google, started.name).status == RUNNING
    google.control("DELETE", "faults")
    google.done(started)
    assert google.disk("weights").status == "READY"


def test_the_same_request_id_is_the_same_operation(google: GoogleApis) -> None:
    request_id = str(uuid.uuid4())
    first = insert_once(google, request_id)
    google.done(first)
    assert insert_once(google, request_id).name == first.name
    with pytest.raises(exceptions.Conflict):
        insert_once(google, str(uuid.uuid4()))
    assert len(google.control("GET", "writes")["writes"]) == 1


@pytest.mark.parametrize("bad", ["weights", "00000000-0000-0000-0000-000000000000"])
def test_a_request_id_must_be_a_uuid(google: GoogleApis, bad: str) -> None:
    with pytest.raises(exceptions.BadRequest, match="requestId"):
        insert_once(google, bad)


def test_only_accepted_changes_are_listed_as_writes(google: GoogleApis) -> None:
    google.made("weights")
    with pytest.raises(exceptions.Conflict):
        google.insert("weights")
    google.disk("weights")
    list(google.disks.list(**PLACE))
    (write,) = google.control("GET", "writes")["writes"]
    assert (write["method"], write["path"]) == ("POST", "projects/demo/zones/us-central1-a/disks")
    assert write["principal"] == EMAIL


def test_a_burst_of_503_ends(google: GoogleApis) -> None:
    google.made("weights")
    google.control("POST", "faults", kind="api-error", code=503, match="PATCH .*/disks/", count=2)
    for _ in range(2):
        with pytest.raises(exceptions.ServiceUnavailable):
            google.update("weights", "labels", labels={"a": "1"})
    google.done(google.update("weights", "labels", labels={"a": "1"}))


def test_a_fault_that_is_none_is_refused(google: GoogleApis) -> None:
    for wrong in ({"kind": "fire"}, {"kind": "op-error", "matches": "x"}, {"kind": "op-error", "match": "("}):
        with pytest.raises(OSError, match="400"):
            google.control("POST", "faults", **wrong)


def test_a_restart_keeps_disks_attachments_ids_and_operations(google: GoogleApis) -> None:
    google.made("weights", labels={"release": "abc"})
    attaching = google.attach("weights")
    google.done(attaching)
    before = google.disk("weights")
    google.stop()
    google.start()
    assert google.disk("weights") == before
    assert before.users
    assert google.done(attaching).operation_type == "attachDisk"
    google.done(google.detach("weights"))
    assert not google.disk("weights").users


def test_a_restart_takes_up_operations_that_ran(google: GoogleApis) -> None:
    google.control("POST", "faults", kind="op-latency", seconds=3600)
    started = google.insert("weights")
    google.stop()
    google.start()
    assert codes(google.done(started)) == []
    assert google.disk("weights").status == "READY"
    request_id = str(uuid.uuid4())
    google.done(insert_once(google, request_id, "two"))
    google.stop()
    google.start()
    assert insert_once(google, request_id, "two").name


def test_an_attach_that_was_done_but_not_yet_told_is_not_done_twice(google: GoogleApis) -> None:
    """The fake was killed between the change and its operation's end: the state file says both."""
    google.made("weights")
    started = google.attach("weights")
    google.done(started)
    google.stop()
    file = google.folder / "state" / "google.json"
    state = json.loads(file.read_text())
    key = next(k for k in state["operations"] if k.endswith(started.name))
    (entry,) = state["resources"]["projects/demo/zones/us-central1-a/instances/gpu-node-1"]["disks"]
    state["operations"][key]["status"] = "RUNNING"
    arguments = {"entry": entry, "disk": "projects/demo/zones/us-central1-a/disks/weights"}
    target = "projects/demo/zones/us-central1-a/instances/gpu-node-1"
    state["pending"][key] = {"effect": "instance.attach", "target": target, "arguments": arguments}
    file.write_text(json.dumps(state))
    google.start()
    assert codes(google.done(started)) == []
    assert len(google.disk("weights").users) == 1


def test_operations_are_listed(google: GoogleApis) -> None:
    google.made("weights")
    found = list(google.client(compute_v1.ZoneOperationsClient).list(**PLACE))
    assert [o.operation_type for o in found] == ["insert"]
