"""Node pools of the one cluster: create, get, list, delete, and GKE's operations. No node is made here.

Bodies are parsed by google-cloud-container's own classes. A pool whose operation failed stays, with status ERROR and
the reason. The bench's provisioner reads the pools and makes nodes for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from testbench.fakes.google import errors, offer, rules
from testbench.fakes.google.calls import Call, Endpoint
from testbench.fakes.google.cloud import Cloud
from testbench.fakes.google.faults import STOCKOUT
from testbench.fakes.google.messages import Resource
from testbench.fakes.google.operations import register

CREATE, DELETE = "CREATE_NODE_POOL", "DELETE_NODE_POOL"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_RPC_CODE = {400: 3, 403: 7, 404: 5, 409: 6, 429: 8, 503: 14}


def check_cluster(call: Call, name: str) -> str:
    """-> the cluster's path.

    Raises:
        ApiError: 404, there is no such cluster.
    """
    settings = call.cloud.settings
    where = f"projects/{call['project']}/locations/{call['location']}/clusters/{name}"
    if where != f"projects/{settings.project}/locations/{settings.location}/clusters/{settings.cluster}":
        raise errors.ApiError(404, "notFound", f"Not found: {where}.")
    return where


def documents(call: Call) -> list[Resource]:
    """Every pool: the one that a Standard cluster has from the start, and those that were made."""
    settings = call.cloud.settings
    if settings.autopilot:
        return []
    where = f"projects/{settings.project}/locations/{settings.location}/clusters/{settings.cluster}"
    first = {
        "name": "default-pool",
        "version": settings.cluster_version,
        "status": "RUNNING",
        "locations": [settings.zone],
        "selfLink": f"{settings.url}/v1/{where}/nodePools/default-pool",
    }
    return [first, *(pool for _, pool in call.cloud.state.under(f"{where}/nodePools"))]


def list_(call: Call) -> Resource:
    check_cluster(call, call["cluster"])
    return {"nodePools": documents(call)}


def get(call: Call) -> Resource:
    return _need(call)[1]


def create(call: Call) -> Resource:
    where = check_cluster(call, call["cluster"])
    wish = call.body("createNodePool").get("nodePool", {})
    settings, name = call.cloud.settings, str(wish.get("name", ""))
    if settings.autopilot:
        raise errors.refused("Node pools of an Autopilot cluster cannot be created.")
    key = f"{where}/nodePools/{name}"
    if any(p["name"] == name for p in documents(call)):
        raise errors.ApiError(409, "alreadyExists", f"Already exists: {key}.")
    _check(call.cloud, wish)
    made: Resource = {
        "selfLink": f"{settings.url}/v1/{key}",
        "version": settings.cluster_version,
        "status": "PROVISIONING",
    }
    call.cloud.state.held.resources[key] = wish | made
    return _document(call.cloud, call.started(CREATE, key, "node-pool.create"))


def delete(call: Call) -> Resource:
    key, pool = _need(call)
    if pool["status"] in ("PROVISIONING", "STOPPING"):
        busy = next(
            o
            for o in call.cloud.state.held.operations.values()
            if o["status"] != "DONE" and o["targetLink"].endswith(key)
        )
        raise errors.refused(f"Cluster is running incompatible operation {busy['name']}.")
    pool["status"] = "STOPPING"
    return _document(call.cloud, call.started(DELETE, key, "node-pool.delete"))


def operation_get(call: Call) -> Resource:
    key = f"projects/{call['project']}/locations/{call['location']}/operations/{call['name']}"
    found = call.cloud.state.held.operations.get(key)
    if found is None:
        raise errors.ApiError(404, "notFound", f"Not found: {key}.")
    return _document(call.cloud, found)


def operation_list(call: Call) -> Resource:
    prefix = f"projects/{call['project']}/locations/{call['location']}/operations/"
    found = [o for k, o in call.cloud.state.held.operations.items() if k.startswith(prefix)]
    return {"operations": [_document(call.cloud, o) for o in found]}


def _need(call: Call) -> tuple[str, Resource]:
    where = check_cluster(call, call["cluster"])
    for pool in documents(call):
        if pool["name"] == call["name"]:
            return f"{where}/nodePools/{call['name']}", pool
    raise errors.ApiError(404, "notFound", f"Not found: {where}/nodePools/{call['name']}.")


def _check(cloud: Cloud, wish: Resource) -> None:
    """
    Raises:
        ApiError: 400, what GKE would refuse at once.
    """
    config, zones = wish.get("config", {}), wish.get("locations", [])
    if not _NAME.fullmatch(str(wish.get("name", ""))):
        raise errors.refused(f'Invalid value for field "node_pool.name": "{wish.get("name", "")}".')
    for zone in zones:
        if not zone.startswith(f"{cloud.settings.location}-") or zone not in offer.zones():
            raise errors.refused(f'Zone "{zone}" is not in the cluster\'s region.')
        machine = offer.machine_type(
            f"projects/{cloud.settings.project}/zones/{zone}", config.get("machineType", "")
        )
        _check_accelerators(machine, config.get("accelerators", []))
    rules.check_labels(config.get("resourceLabels", {}))
    for label in config.get("labels", {}):
        # A kubelet that is told to set one of these does not start.
        if label.partition("/")[0].endswith(("kubernetes.io", "k8s.io")):
            raise errors.refused(f"Node label {label} is in a reserved namespace.")
    for disk in config.get("secondaryBootDisks", []):
        _check_disk(cloud, config, disk)


def _check_accelerators(machine: str, wanted: list[Resource]) -> None:
    has = offer.MACHINES[machine]
    asked = [(a.get("acceleratorType"), int(a.get("acceleratorCount", 0))) for a in wanted]
    if asked not in ([], [(has.accelerator, has.accelerators)]):
        raise errors.refused(
            f"Machine type {machine} has {has.accelerators} of {has.accelerator or 'no'} accelerators."
        )


def _check_disk(cloud: Cloud, config: Resource, disk: Resource) -> None:
    key = cloud.key(disk.get("diskImage", ""), within=f"projects/{cloud.settings.project}/global/images")
    if key not in cloud.state.held.resources:
        raise errors.refused(f"The disk image {disk.get('diskImage')} was not found.")
    if disk.get("mode") == "CONTAINER_IMAGE_CACHE" and not config.get("gcfsConfig", {}).get("enabled"):
        raise errors.refused("Secondary boot disks with container images need image streaming.")


def _document(cloud: Cloud, held: Resource) -> Resource:
    """An operation as GKE shows it; they are all kept in Compute's form."""
    target = str(held["targetLink"]).removeprefix(cloud.base)
    key = str(held["selfLink"]).removeprefix(cloud.base)
    document: Resource = {
        "name": held["name"],
        "operationType": held["operationType"],
        "status": held["status"],
        "location": cloud.settings.location,
        "startTime": held["startTime"],
        "selfLink": f"{cloud.settings.url}/v1/{key}",
        "targetLink": f"{cloud.settings.url}/v1/{target}",
    }
    if "endTime" in held:
        document["endTime"] = held["endTime"]
    for failed in held.get("error", {}).get("errors", [])[:1]:
        message = failed["message"]
        code = _RPC_CODE.get(held["httpErrorStatusCode"], 13)
        document |= {"error": {"code": code, "message": message}, "statusMessage": message}
        if failed["code"] == STOCKOUT:
            document["nodepoolConditions"] = [{"code": "GCE_STOCKOUT", "message": message}]
    return document


# What the operations do ---------------------------------------------------------------------------


def _create_done(cloud: Cloud, key: str, arguments: Mapping[str, Any]) -> None:
    with cloud.state.changing():
        cloud.state.need(key)["status"] = "RUNNING"


def _create_failed(cloud: Cloud, key: str, arguments: Mapping[str, Any]) -> None:
    with cloud.state.changing():
        cloud.state.need(key).update(status="ERROR", statusMessage="The node pool could not be created.")


def _delete_done(cloud: Cloud, key: str, arguments: Mapping[str, Any]) -> None:
    with cloud.state.changing() as held:
        held.resources.pop(key, None)


register("node-pool.create", _create_done, undo=_create_failed)
register("node-pool.delete", _delete_done, undo=_create_done)

_PARENT = "projects/{project}/(?:locations|zones)/{location}"
_POOLS = f"{_PARENT}/clusters/{{cluster}}/nodePools"
ENDPOINTS = (
    Endpoint("GET", _POOLS, list_, "container.clusters.get"),
    Endpoint("GET", f"{_POOLS}/{{name}}", get, "container.clusters.get"),
    Endpoint("POST", _POOLS, create, "container.clusters.update"),
    Endpoint("DELETE", f"{_POOLS}/{{name}}", delete, "container.clusters.update"),
    Endpoint("GET", f"{_PARENT}/operations", operation_list, "container.operations.list"),
    Endpoint("GET", f"{_PARENT}/operations/{{name}}", operation_get, "container.operations.get"),
)
