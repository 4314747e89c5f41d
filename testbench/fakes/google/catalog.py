"""zones, regions with their quotas, disk types, machine types, accelerator types of Compute v1: reads only."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from testbench.fakes.google import errors, listing, offer, rules
from testbench.fakes.google.calls import Call, Endpoint
from testbench.fakes.google.cloud import Cloud
from testbench.fakes.google.messages import Resource


def _region(cloud: Cloud, project: str, name: str) -> Resource:
    base, used = f"{cloud.base}projects/{project}", offer.usage(cloud, project, name)
    quotas = [
        {"metric": m, "limit": cloud.faults.quota(m, name, limit), "usage": used.get(m, 0.0)}
        for m, limit in offer.QUOTAS.items()
    ]
    return {
        "kind": "compute#region",
        "id": _number(name),
        "name": name,
        "description": name,
        "status": "UP",
        "quotas": quotas,
        "zones": [f"{base}/zones/{name}-{letter}" for letter in offer.REGIONS[name]],
        "selfLink": f"{base}/regions/{name}",
    }


def _zone(cloud: Cloud, project: str, name: str) -> Resource:
    base = f"{cloud.base}projects/{project}"
    return {
        "kind": "compute#zone",
        "id": _number(name),
        "name": name,
        "description": name,
        "status": "UP",
        "region": f"{base}/regions/{name[:-2]}",
        "selfLink": f"{base}/zones/{name}",
    }


def _disk_type(name: str) -> Resource:
    least, most, default = rules.DISK_TYPES[name]
    return {
        "kind": "compute#diskType",
        "validDiskSize": f"{least}GB-{most}GB",
        "defaultDiskSizeGb": str(default),
    }


def _machine_type(name: str) -> Resource:
    machine = offer.MACHINES[name]
    document: Resource = {
        "kind": "compute#machineType",
        "guestCpus": machine.cpus,
        "memoryMb": machine.memory_mib,
    }
    if machine.accelerator:
        document["accelerators"] = [
            {"guestAcceleratorType": machine.accelerator, "guestAcceleratorCount": machine.accelerators}
        ]
    return document


def _accelerator_type(name: str) -> Resource:
    return {"kind": "compute#acceleratorType", "description": name, "maximumCardsPerInstance": 8}


def _number(name: str) -> str:
    return str(1000 + sum(map(ord, name)))


_TYPES: Mapping[str, tuple[Callable[[str], list[str]], Callable[[str], Resource]]] = {
    "diskTypes": (lambda zone: list(rules.DISK_TYPES), _disk_type),
    "machineTypes": (lambda zone: [m for m in offer.MACHINES if offer.offered(m, zone)], _machine_type),
    "acceleratorTypes": (
        lambda zone: [a for a, where in offer.ACCELERATORS.items() if zone in where],
        _accelerator_type,
    ),
}


def _typed(call: Call, name: str) -> Resource:
    kind = call["kind"]
    return _TYPES[kind][1](name) | {
        "id": _number(name),
        "name": name,
        "zone": call.cloud.base + call.scope,
        "selfLink": f"{call.cloud.base}{call.scope}/{kind}/{name}",
    }


def types(call: Call) -> Resource:
    offer.check_place(call.scope)
    link = f"{call.scope}/{call['kind']}"
    found = [(n, _typed(call, n)) for n in _TYPES[call["kind"]][0](call.scope.rpartition("/")[2])]
    items, token = listing.page(found, call.request.query)
    return listing.document(
        f"{call['kind'][:-1]}List", [r for _, r in items], link=call.cloud.base + link, token=token
    )


def type_(call: Call) -> Resource:
    offer.check_place(call.scope)
    if call["name"] not in _TYPES[call["kind"]][0](call.scope.rpartition("/")[2]):
        raise errors.not_found(call.key)
    return _typed(call, call["name"])


def zone_list(call: Call) -> Resource:
    return _list(call, "zone", [(z, _zone(call.cloud, call["project"], z)) for z in offer.zones()])


def region_list(call: Call) -> Resource:
    return _list(call, "region", [(r, _region(call.cloud, call["project"], r)) for r in offer.REGIONS])


def _list(call: Call, kind: str, found: list[tuple[str, Resource]]) -> Resource:
    items, token = listing.page(found, call.request.query)
    link = f"{call.cloud.base}projects/{call['project']}/{kind}s"
    return listing.document(f"{kind}List", [r for _, r in items], link=link, token=token)


def zone(call: Call) -> Resource:
    if call["name"] not in offer.zones():
        raise errors.not_found(f"projects/{call['project']}/zones/{call['name']}")
    return _zone(call.cloud, call["project"], call["name"])


def region(call: Call) -> Resource:
    if call["name"] not in offer.REGIONS:
        raise errors.not_found(f"projects/{call['project']}/regions/{call['name']}")
    return _region(call.cloud, call["project"], call["name"])


def project(call: Call) -> Resource:
    return {
        "kind": "compute#project",
        "id": call.cloud.settings.project_number,
        "name": call["project"],
        "selfLink": f"{call.cloud.base}projects/{call['project']}",
    }


_KINDS = "{kind:diskTypes|machineTypes|acceleratorTypes}"
ENDPOINTS = (
    Endpoint("GET", "projects/{project}", project, "compute.projects.get"),
    Endpoint("GET", "projects/{project}/zones", zone_list, "compute.zones.list"),
    Endpoint("GET", "projects/{project}/zones/{name}", zone, "compute.zones.get"),
    Endpoint("GET", "projects/{project}/regions", region_list, "compute.regions.list"),
    Endpoint("GET", "projects/{project}/regions/{name}", region, "compute.regions.get"),
    Endpoint("GET", f"projects/{{project}}/{{place:zones/[^/]+}}/{_KINDS}", types, "compute.zones.list"),
    Endpoint(
        "GET", f"projects/{{project}}/{{place:zones/[^/]+}}/{_KINDS}/{{name}}", type_, "compute.zones.get"
    ),
)
