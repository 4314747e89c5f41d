"""disks of Compute v1: insert, get, lists, update, resize, setLabels, delete, createSnapshot.

The rules are in rules.py, the bytes in devices.py. Regional disks and instant snapshots are not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbench.fakes.google import errors, offer, resources, rules, sources
from testbench.fakes.google.calls import PLACE, Call, Endpoint
from testbench.fakes.google.cloud import Cloud
from testbench.fakes.google.messages import Resource, read_only_fields
from testbench.fakes.google.operations import register

UPDATABLE = ("accessMode", "labels", "provisionedThroughput", "provisionedIops", "sizeGb", "userLicenses")


def insert(call: Call) -> Resource:
    resource = new_disk(call.cloud, call.scope, call.body("disks"), call.request.query.get("sourceImage", ""))
    key = f"{call.scope}/disks/{resource['name']}"
    with call.cloud.state.changing() as held:
        held.resources[key] = resource
    return call.started("insert", key, "disk.insert", {"source": sources.key_of(resource, call)})


def new_disk(cloud: Cloud, scope: str, body: Resource, source_image: str = "") -> Resource:
    """A checked disk in status CREATING, not yet held."""
    rules.check_name(body)
    rules.check_labels(body.get("labels", {}))
    key = f"{scope}/disks/{body['name']}"
    offer.check_zone(scope)
    if key in cloud.state.held.resources:
        raise errors.already_exists(key)
    resource = read_only_fields(body)
    if source_image:
        resource["sourceImage"] = source_image
    source = sources.of(cloud, scope, resource)
    kind = offer.disk_type(cloud, scope, resource.get("type", "pd-standard"))
    size = rules.size_gib(resource, kind, int(source.get("diskSizeGb", 0)) if source else 0)
    resource |= resources.identity(cloud, scope, "disks", resource["name"])
    resource |= {
        "type": f"{cloud.base}{scope}/diskTypes/{kind}",
        "sizeGb": str(size),
        "status": "CREATING",
        "users": [],
        "physicalBlockSizeBytes": "4096",
        "labelFingerprint": rules.fingerprint(resource.get("labels", {})),
        "accessMode": rules.access_mode(resource, kind, from_source=source is not None),
    }
    if kind == rules.HYPERDISK_ML:
        throughput = rules.throughput_mibps(resource, size)
        offer.check_throughput_quota(cloud, scope, throughput)
        resource["provisionedThroughput"] = str(throughput)
    return resource


def update(call: Call) -> Resource:
    """PATCH with `paths` (or `updateMask`); without either, every field of the body counts."""
    body, key = call.body("disks"), call.key
    call.cloud.state.need(key)
    asked = (
        call.request.values("paths") or call.request.values("updateMask") or [k for k in body if k != "name"]
    )
    paths = [p for p in asked if p != "name"]
    unknown = [p for p in paths if p not in UPDATABLE]
    if unknown:
        raise errors.invalid("paths", ",".join(unknown), "The field cannot be updated.")
    wanted = {p: body.get(p) for p in paths}
    _checked(call.cloud, key, wanted)
    return call.started("update", key, "disk.update", wanted)


def _checked(cloud: Cloud, key: str, wanted: Mapping[str, Any]) -> Resource:
    """The fields as they will be; raises when one is refused."""
    disk = cloud.state.need(key)
    changed: Resource = dict(wanted)
    if "accessMode" in wanted:
        rules.check_new_access_mode(disk, str(wanted["accessMode"]), key)
    if "labels" in wanted:
        changed["labels"] = wanted["labels"] or {}
        rules.check_labels(changed["labels"])
        changed["labelFingerprint"] = rules.fingerprint(changed["labels"])
    if "sizeGb" in wanted:
        _check_growth(disk, int(wanted["sizeGb"] or 0))
    if "provisionedThroughput" in wanted:
        asked = rules.throughput_mibps(changed, int(changed.get("sizeGb") or disk["sizeGb"]))
        scope = key.partition("/disks/")[0]
        offer.check_throughput_quota(cloud, scope, asked - int(disk.get("provisionedThroughput", 0)))
        changed["provisionedThroughput"] = str(asked)
    return changed


def _check_growth(disk: Resource, size: int) -> None:
    if size <= int(disk["sizeGb"]):
        raise errors.invalid("sizeGb", size, f"New disk size must be larger than {disk['sizeGb']} GB.")
    rules.size_gib({"sizeGb": size}, disk["type"].rpartition("/")[2], 0)


def resize(call: Call) -> Resource:
    wanted = {"sizeGb": str(call.body("disksResize").get("sizeGb", "0"))}
    _checked(call.cloud, call.key, wanted)
    return call.started("resizeDisk", call.key, "disk.update", wanted)


def delete(call: Call) -> Resource:
    disk = call.cloud.state.need(call.key)
    if disk["users"]:
        raise errors.in_use("disk", call.key, disk["users"][0])
    with call.cloud.state.changing():
        disk["status"] = "DELETING"
    return call.started("delete", call.key, "disk.delete")


def create_snapshot(call: Call) -> Resource:
    """A snapshot of the disk's content at the time when the operation runs."""
    call.cloud.state.need(call.key)
    body = call.body("snapshots") | {"sourceDisk": call.cloud.base + call.key}
    key = sources.add_copy(call.cloud, call["project"], "snapshots", body)
    started = call.started("createSnapshot", call.key, "copy.insert", {"copy": key})
    return started


def aggregated(call: Call) -> Resource:
    return resources.aggregated(call, "disks", "diskAggregatedList")


# What the operations do ---------------------------------------------------------------------------


def _insert_done(cloud: Cloud, key: str, arguments: Mapping[str, Any]) -> None:
    if arguments.get("source"):
        cloud.devices.copy(sources.content(arguments["source"]), sources.content(key))
    with cloud.state.changing():
        cloud.state.need(key)["status"] = "READY"


def _forget(cloud: Cloud, key: str, arguments: Mapping[str, Any]) -> None:
    with cloud.state.changing() as held:
        held.resources.pop(key, None)
    cloud.devices.remove(sources.content(key))


def _update_done(cloud: Cloud, key: str, arguments: Mapping[str, Any]) -> None:
    with cloud.state.changing():
        changed = _checked(cloud, key, arguments)
        cloud.state.need(key).update(changed)


def _delete_done(cloud: Cloud, key: str, arguments: Mapping[str, Any]) -> None:
    with cloud.state.changing():
        if users := cloud.state.held.resources.get(key, {}).get("users"):
            raise errors.in_use("disk", key, users[0])
        _forget(cloud, key, arguments)


def _delete_failed(cloud: Cloud, key: str, arguments: Mapping[str, Any]) -> None:
    with cloud.state.changing() as held:
        if key in held.resources:
            held.resources[key]["status"] = "READY"


register("disk.insert", _insert_done, undo=_forget)
register("disk.update", _update_done)
register("disk.delete", _delete_done, undo=_delete_failed)

_ONE = rf"projects/{{project}}/{PLACE}/{{kind:disks}}/{{name}}"
ENDPOINTS = (
    Endpoint("GET", "projects/{project}/aggregated/disks", aggregated, "compute.disks.list"),
    Endpoint("POST", rf"projects/{{project}}/{PLACE}/disks", insert, "compute.disks.create"),
    Endpoint("PATCH", _ONE, update, "compute.disks.update"),
    Endpoint("DELETE", _ONE, delete, "compute.disks.delete"),
    Endpoint("POST", f"{_ONE}/resize", resize, "compute.disks.resize"),
    Endpoint("POST", f"{_ONE}/createSnapshot", create_snapshot, "compute.disks.createSnapshot"),
    *resources.endpoints("disks", place=PLACE),
)
