"""Images and snapshots: copies of a disk's content, and what a new disk can be made from.

A copy of a bench node's disk really holds its bytes. Families answer the newest image; public images of other
projects are known by name only and are empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbench.fakes.google import errors, resources, rules
from testbench.fakes.google.calls import Call, Endpoint
from testbench.fakes.google.cloud import Cloud
from testbench.fakes.google.messages import Resource, read_only_fields
from testbench.fakes.google.operations import register

_PLACE = "{place:global}"
_STATUS = {"images": "PENDING", "snapshots": "CREATING"}
PUBLIC = ("projects/cos-cloud/", "projects/debian-cloud/", "projects/ubuntu-os-cloud/")


def content(key: str) -> str:
    """Name of the file that holds the bytes of a disk, an image or a snapshot."""
    parts = key.split("/")
    return f"{parts[3]}.{parts[-1]}" if parts[-2] == "disks" else f"{parts[-2]}.{parts[-1]}"


def of(cloud: Cloud, scope: str, disk: Resource) -> Resource | None:
    """The image, snapshot or disk that a new disk is made from; fills in its id.

    Raises:
        ApiError: 404 (there is none), 400 (it is not ready).
    """
    key = _source_key(cloud, scope, disk)
    if not key:
        return None
    if key.startswith(PUBLIC):
        return {"diskSizeGb": "10", "status": "READY"}
    found = cloud.state.need(key)
    if found["status"] != "READY":
        raise errors.not_ready(key)
    field = next(f for f in ("sourceImage", "sourceSnapshot", "sourceDisk") if f in disk)
    disk[field] = cloud.base + key
    disk[f"{field}Id"] = found["id"]
    return {"diskSizeGb": found.get("diskSizeGb", found.get("sizeGb", "0")), "status": "READY"}


def key_of(disk: Resource, call: Call) -> str:
    """Key of the disk's source once `of` has filled it in, "" without one or with a public image."""
    key = _source_key(call.cloud, call.scope, disk)
    return "" if key.startswith(PUBLIC) else key


def _source_key(cloud: Cloud, scope: str, disk: Resource) -> str:
    project = "/".join(scope.split("/")[:2])
    if image := disk.get("sourceImage"):
        key = cloud.key(image, within=f"{project}/global/images")
        return key if key.startswith(PUBLIC) or "/family/" not in key else _newest(cloud, key)
    if snapshot := disk.get("sourceSnapshot"):
        return cloud.key(snapshot, within=f"{project}/global/snapshots")
    if source := disk.get("sourceDisk"):
        return cloud.key(source, within=f"{scope}/disks")
    return ""


def _newest(cloud: Cloud, key: str) -> str:
    collection, _, family = key.partition("/family/")
    found = [
        (r["creationTimestamp"], k) for k, r in cloud.state.under(collection) if r.get("family") == family
    ]
    if not found:
        raise errors.not_found(key)
    return str(max(found)[1])


def insert(call: Call) -> Resource:
    key = add_copy(call.cloud, call["project"], call["kind"], call.body(call["kind"]), call.request.query)
    return call.started("insert", key, "copy.insert", {"copy": key})


def add_copy(
    cloud: Cloud, project: str, kind: str, body: Resource, query: Mapping[str, str] | None = None
) -> str:
    """Holds a new image or snapshot of `body["sourceDisk"]`, not yet ready; answers its key."""
    rules.check_name(body)
    rules.check_labels(body.get("labels", {}))
    scope = f"projects/{project}/global"
    key = f"{scope}/{kind}/{body['name']}"
    if key in cloud.state.held.resources:
        raise errors.already_exists(key)
    if "sourceDisk" not in body:
        raise errors.invalid("resource.sourceDisk", "", "Only copies of a disk can be made here.")
    disk_key = cloud.key(body["sourceDisk"], within=f"{scope}/disks")
    disk = cloud.state.need(disk_key)
    forced = (query or {}).get("forceCreate") == "true"
    if kind == "images" and disk["users"] and not forced:
        raise errors.in_use("disk", disk_key, disk["users"][0])
    resource = read_only_fields(body) | resources.identity(cloud, scope, kind, body["name"])
    resource |= {
        "sourceDisk": cloud.base + disk_key,
        "sourceDiskId": disk["id"],
        "diskSizeGb": disk["sizeGb"],
        "status": _STATUS[kind],
        "labelFingerprint": rules.fingerprint(body.get("labels", {})),
    }
    with cloud.state.changing() as held:
        held.resources[key] = resource
    return key


def family(call: Call) -> Resource:
    return call.cloud.state.need(_newest(call.cloud, f"{call.scope}/images/family/{call['family']}"))


def delete(call: Call) -> Resource:
    call.cloud.state.need(call.key)
    return call.started("delete", call.key, "copy.delete", {"copy": call.key})


def _insert_done(cloud: Cloud, target: str, arguments: Mapping[str, Any]) -> None:
    disk = cloud.state.need(arguments["copy"])["sourceDisk"].removeprefix(cloud.base)
    cloud.devices.copy(content(disk), content(arguments["copy"]))
    with cloud.state.changing():
        cloud.state.need(arguments["copy"])["status"] = "READY"


def _forget(cloud: Cloud, target: str, arguments: Mapping[str, Any]) -> None:
    with cloud.state.changing() as held:
        held.resources.pop(arguments["copy"], None)
    cloud.devices.remove(content(arguments["copy"]))


register("copy.insert", _insert_done, undo=_forget)
register("copy.delete", _forget)

_MANY = "projects/{project}/{place:global}/{kind:images|snapshots}"
ENDPOINTS = (
    Endpoint(
        "GET",
        "projects/{project}/{place:global}/images/family/{family}",
        family,
        "compute.images.getFromFamily",
    ),
    Endpoint("POST", _MANY, insert, "compute.images.create"),
    Endpoint("DELETE", f"{_MANY}/{{name}}", delete, "compute.images.delete"),
    *resources.endpoints("images", place=_PLACE),
    *resources.endpoints("snapshots", place=_PLACE),
)
