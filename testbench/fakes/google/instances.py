"""instances of Compute v1: insert, get, list, attachDisk, detachDisk, delete, serial port output.

An instance here is a record, for a bench node the owner of real devices, and with a startup script a machine that
runs it (machines.py).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from testbench.fakes.google import disks, errors, offer, resources, rules, sources
from testbench.fakes.google.calls import PLACE, Call, Endpoint
from testbench.fakes.google.cloud import Cloud
from testbench.fakes.google.devices import Attachment
from testbench.fakes.google.messages import Resource, read_only_fields
from testbench.fakes.google.operations import register
from testbench.fakes.google.state import now

_deleting = threading.Lock()


def insert(call: Call) -> Resource:
    key = add(call.cloud, call.scope, call.body("instances"))
    return call.started("insert", key, "instance.insert")


def add(cloud: Cloud, scope: str, body: Resource) -> str:
    """Holds a new instance in status PROVISIONING with its disks attached; answers its key."""
    rules.check_name(body)
    offer.check_zone(scope)
    key = f"{scope}/instances/{body['name']}"
    if key in cloud.state.held.resources:
        raise errors.already_exists(key)
    machine = offer.machine_type(scope, body.get("machineType", ""))
    resource = read_only_fields(body) | resources.identity(cloud, scope, "instances", body["name"])
    resource |= {
        "machineType": f"{cloud.base}{scope}/machineTypes/{machine}",
        "status": "PROVISIONING",
        "labelFingerprint": rules.fingerprint(body.get("labels", {})),
        "disks": [],
    }
    with cloud.state.changing() as held:
        for wish in body.get("disks", []):
            _made_with(cloud, scope, resource, wish)
        held.resources[key] = resource
    return key


def _made_with(cloud: Cloud, scope: str, instance: Resource, wish: Resource) -> None:
    """A disk of a new instance: an existing one, or one described by initializeParams."""
    number = len(instance["disks"])
    asked = dict(wish)
    if (wanted := asked.pop("initializeParams", None)) is not None:
        name = wanted.get("diskName") or (instance["name"] if number == 0 else f"{instance['name']}-{number}")
        body = {
            "name": name,
            "sizeGb": wanted.get("diskSizeGb", "10"),
            "type": wanted.get("diskType", "pd-balanced"),
        }
        body |= {k: wanted[k] for k in ("sourceImage", "sourceSnapshot", "labels") if k in wanted}
        disk = disks.new_disk(cloud, scope, body) | {"status": "READY"}
        cloud.state.held.resources[f"{scope}/disks/{name}"] = disk
        asked["source"] = disk["selfLink"]
    entry, disk_key = _entry(cloud, scope, instance, asked)
    _hold(cloud, instance, entry, disk_key)


def attach(call: Call) -> Resource:
    """Rules that the request itself breaks are answered at once; a disk in use fails the operation."""
    cloud, wish = call.cloud, call.body("attachedDisk")
    instance = cloud.state.need(call.key)
    entry, disk_key = _entry(cloud, call.scope, instance, wish)
    try:
        _check(cloud, instance, entry, disk_key)
    except errors.ApiError as e:
        if e.operation_code != "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE":
            raise
    return call.started("attachDisk", call.key, "instance.attach", {"entry": entry, "disk": disk_key})


def _entry(cloud: Cloud, scope: str, instance: Resource, wish: Resource) -> tuple[Resource, str]:
    """The attachment as the instance will show it, and the disk's key."""
    if not wish.get("source"):
        raise errors.invalid("resource.source", "", "A disk must be named.")
    disk_key = cloud.key(wish["source"], within=f"{scope}/disks")
    disk = cloud.state.need(disk_key)
    if disk_key.split("/disks/")[0] != scope:
        raise errors.invalid(
            "resource.source", wish["source"], "The disk must be in the zone of the instance."
        )
    names = {d["deviceName"] for d in instance["disks"]}
    name = wish.get("deviceName") or f"persistent-disk-{len(instance['disks'])}"
    if name in names:
        raise errors.invalid(
            "resource.deviceName", name, "The device name is already in use on the instance."
        )
    fixed = {
        "kind": "compute#attachedDisk",
        "type": "PERSISTENT",
        "mode": wish.get("mode", "READ_WRITE"),
        "source": cloud.base + disk_key,
        "deviceName": name,
        "index": len(instance["disks"]),
        "boot": wish.get("boot", False),
        "autoDelete": wish.get("autoDelete", False),
        "interface": wish.get("interface", "SCSI"),
        "diskSizeGb": disk["sizeGb"],
    }
    return fixed, disk_key


def _check(cloud: Cloud, instance: Resource, entry: Resource, disk_key: str) -> None:
    source = entry["source"]
    modes = [
        d["mode"]
        for _, r in cloud.state.held.resources.items()
        for d in r.get("disks", [])
        if d["source"] == source
    ]
    rules.check_attach(
        cloud.state.need(disk_key),
        disk_key,
        instance=instance["selfLink"],
        read_only=entry["mode"] == "READ_ONLY",
        held_read_only=all(m == "READ_ONLY" for m in modes),
    )


def _hold(cloud: Cloud, instance: Resource, entry: Resource, disk_key: str) -> None:
    _check(cloud, instance, entry, disk_key)
    disk = cloud.state.need(disk_key)
    disk["users"] = [*disk["users"], instance["selfLink"]]
    disk["lastAttachTimestamp"] = now()
    instance["disks"] = [*instance["disks"], entry]


def detach(call: Call) -> Resource:
    instance, device = call.cloud.state.need(call.key), call.request.query.get("deviceName", "")
    if device not in {d["deviceName"] for d in instance["disks"]}:
        raise errors.ApiError(400, "invalid", f"No attached disk found with device name '{device}'")
    return call.started("detachDisk", call.key, "instance.detach", {"device": device})


def delete(call: Call) -> Resource:
    instance = call.cloud.state.need(call.key)
    with call.cloud.state.changing():
        instance["status"] = "STOPPING"
    return call.started("delete", call.key, "instance.delete")


def serial_port(call: Call) -> Resource:
    """What the instance's machine printed; offsets are bytes. Only port 1 is ever written to."""
    call.cloud.state.need(call.key)
    port = call.request.query.get("port", "1")
    start = int(call.request.query.get("start", 0))
    content = call.cloud.machines.serial(call["name"]) if port == "1" else b""
    return {
        "kind": "compute#serialPortOutput",
        "selfLink": f"{call.cloud.base}{call.key}/serialPort",
        "contents": content[start:].decode(errors="replace"),
        "start": str(start),
        "next": str(max(start, len(content))),
    }


def guest_attributes(call: Call) -> Resource:
    """Those of one namespace, or one value: `queryPath` is "namespace/" or "namespace/key"."""
    call.cloud.state.need(call.key)
    asked = call.request.query.get("queryPath", "")
    found = {
        k: v for k, v in call.cloud.machines.guest_attributes(call["name"]).items() if k.startswith(asked)
    }
    if not found:
        raise errors.not_found(f"{call.key}/guestAttributes/{asked}")
    items = [
        {"namespace": k.partition("/")[0], "key": k.partition("/")[2], "value": v} for k, v in found.items()
    ]
    return {"kind": "compute#guestAttributes", "queryPath": asked, "queryValue": {"items": items}}


def aggregated(call: Call) -> Resource:
    return resources.aggregated(call, "instances", "instanceAggregatedList")


# What the operations do ---------------------------------------------------------------------------


def insert_done(cloud: Cloud, key: str, arguments: Mapping[str, Any]) -> None:
    with cloud.state.changing():
        instance = cloud.state.need(key)
        instance["status"] = "RUNNING"
    if cloud.settings.records is not None:
        cloud.machines.start(instance, key)


def _attach_done(cloud: Cloud, key: str, arguments: Mapping[str, Any]) -> None:
    entry, disk_key = arguments["entry"], arguments["disk"]
    with cloud.state.changing():
        instance = cloud.state.need(key)
        if entry not in instance["disks"]:  # it is when the fake was killed after this point
            _hold(cloud, instance, entry, disk_key)
    if not cloud.devices.is_node(instance["name"]):
        return
    try:
        made = cloud.devices.attach(
            instance["name"],
            sources.content(disk_key),
            entry["deviceName"],
            size_gib=int(entry["diskSizeGb"]),
            read_only=entry["mode"] == "READ_ONLY",
        )
    except OSError:
        _release(cloud, key, entry["deviceName"])
        raise
    with cloud.state.changing() as held:
        held.devices[f"{key}/{entry['deviceName']}"] = asdict(made)


def _detach_done(cloud: Cloud, key: str, arguments: Mapping[str, Any]) -> None:
    device = arguments["device"]
    with cloud.state.changing() as held:
        made = held.devices.pop(f"{key}/{device}", None)
    if made:
        cloud.devices.detach(Attachment(**made))
    _release(cloud, key, device)


def _release(cloud: Cloud, key: str, device: str) -> None:
    """The disk is nobody's (here) any more."""
    with cloud.state.changing() as held:
        instance = cloud.state.need(key)
        entry = next((d for d in instance["disks"] if d["deviceName"] == device), None)
        if entry is None:
            return
        instance["disks"] = [d for d in instance["disks"] if d is not entry]
        disk = held.resources.get(entry["source"].removeprefix(cloud.base))
        if disk is not None:
            disk["users"] = [u for u in disk["users"] if u != instance["selfLink"]]
            disk["lastDetachTimestamp"] = now()


def _delete_done(cloud: Cloud, key: str, arguments: Mapping[str, Any]) -> None:
    """Of two deletions of one instance the second finds nothing left to do."""
    with _deleting:
        cloud.machines.stop(key.rpartition("/")[2])
        doomed = []
        for entry in list(cloud.state.held.resources.get(key, {}).get("disks", [])):
            _detach_done(cloud, key, {"device": entry["deviceName"]})
            if entry.get("autoDelete"):
                doomed.append(entry["source"].removeprefix(cloud.base))
        with cloud.state.changing() as held:
            held.resources.pop(key, None)
            for disk in doomed:
                held.resources.pop(disk, None)
                cloud.devices.remove(sources.content(disk))


def _deletion_undone(cloud: Cloud, key: str, arguments: Mapping[str, Any]) -> None:
    if key in cloud.state.held.resources:
        insert_done(cloud, key, arguments)


register("instance.insert", insert_done, undo=_delete_done)
register("instance.attach", _attach_done)
register("instance.detach", _detach_done)
register("instance.delete", _delete_done, undo=_deletion_undone)

_MANY = rf"projects/{{project}}/{PLACE}/{{kind:instances}}"
_ONE = f"{_MANY}/{{name}}"
ENDPOINTS = (
    Endpoint("POST", _MANY, insert, "compute.instances.create"),
    Endpoint("DELETE", _ONE, delete, "compute.instances.delete"),
    Endpoint("POST", f"{_ONE}/attachDisk", attach, "compute.instances.attachDisk"),
    Endpoint("POST", f"{_ONE}/detachDisk", detach, "compute.instances.detachDisk"),
    Endpoint("GET", f"{_ONE}/serialPort", serial_port, "compute.instances.getSerialPortOutput"),
    Endpoint("GET", "projects/{project}/aggregated/instances", aggregated, "compute.instances.list"),
    Endpoint("GET", f"{_ONE}/getGuestAttributes", guest_attributes, "compute.instances.getGuestAttributes"),
    *resources.endpoints("instances", place=PLACE),
)
