"""What the fake region offers: zones, disk types, machine types, accelerators, quotas. Nothing here changes.

The figures are those of the real machine series as far as a release looks at them; prices and availability
are not modelled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from testbench.fakes.google import errors, listing, rules
from testbench.fakes.google.calls import Call, Endpoint
from testbench.fakes.google.cloud import Cloud
from testbench.fakes.google.messages import Resource

REGIONS: Mapping[str, tuple[str, ...]] = {"us-central1": ("a", "b", "c", "f"), "us-east4": ("a", "b", "c")}
HDML_QUOTA = "HDML_TOTAL_THROUGHPUT"


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine type: virtual CPUs, memory in MiB, and the accelerators it comes with."""

    cpus: int
    memory_mib: int
    accelerator: str = ""
    accelerators: int = 0


MACHINES: Mapping[str, Machine] = {
    "g2-standard-4": Machine(4, 16384, "nvidia-l4", 1),
    "g2-standard-8": Machine(8, 32768, "nvidia-l4", 1),
    "g2-standard-12": Machine(12, 49152, "nvidia-l4", 1),
    "g2-standard-16": Machine(16, 65536, "nvidia-l4", 1),
    "g2-standard-24": Machine(24, 98304, "nvidia-l4", 2),
    "g2-standard-32": Machine(32, 131072, "nvidia-l4", 1),
    "g2-standard-48": Machine(48, 196608, "nvidia-l4", 4),
    "g2-standard-96": Machine(96, 393216, "nvidia-l4", 8),
    "a2-highgpu-1g": Machine(12, 87040, "nvidia-tesla-a100", 1),
    "a3-highgpu-8g": Machine(208, 1916928, "nvidia-h100-80gb", 8),
    "c3-standard-4": Machine(4, 16384),
    "c3-standard-8": Machine(8, 32768),
    "c3-standard-22": Machine(22, 90112),
    "c3-standard-44": Machine(44, 180224),
    "e2-standard-4": Machine(4, 16384),
    "e2-standard-8": Machine(8, 32768),
    "n2-standard-8": Machine(8, 32768),
}
ACCELERATORS: Mapping[str, tuple[str, ...]] = {
    "nvidia-l4": ("us-central1-a", "us-central1-b", "us-central1-c", "us-east4-a", "us-east4-c"),
    "nvidia-tesla-a100": ("us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f"),
    "nvidia-h100-80gb": ("us-central1-a", "us-central1-c", "us-east4-a"),
}
QUOTAS: Mapping[str, float] = {
    HDML_QUOTA: 100_000.0,
    "NVIDIA_L4_GPUS": 16.0,
    "PREEMPTIBLE_NVIDIA_L4_GPUS": 16.0,
    "NVIDIA_H100_GPUS": 8.0,
    "CPUS": 500.0,
    "SSD_TOTAL_GB": 20_000.0,
    "INSTANCES": 100.0,
    "SNAPSHOTS": 1000.0,
}


def zones() -> list[str]:
    return [f"{region}-{letter}" for region, letters in REGIONS.items() for letter in letters]


def places() -> list[str]:
    return [*(f"regions/{r}" for r in REGIONS), *(f"zones/{z}" for z in zones())]


def check_place(scope: str) -> None:
    """
    Raises:
        ApiError: 404, no such zone or region.
    """
    place = scope.partition("/")[2].partition("/")[2]
    if place != "global" and place not in places():
        raise errors.not_found(scope)


def check_zone(scope: str) -> None:
    check_place(scope)
    if "/zones/" not in scope:
        raise errors.refused("Only zonal resources can be made here.")


def disk_type(cloud: Cloud, scope: str, url: str) -> str:
    """Name of a disk type given as URL, path or name.

    Raises:
        ApiError: 400, unknown or of another zone.
    """
    key = cloud.key(url, within=f"{scope}/diskTypes")
    name = key.rpartition("/")[2]
    if (
        name not in rules.DISK_TYPES
        or key.split("/diskTypes/")[0].partition("/zones/")[2] != scope.partition("/zones/")[2]
    ):
        raise errors.invalid("resource.type", url, "The disk type is not available in the zone of the disk.")
    return name


def machine_type(scope: str, url: str) -> str:
    name = url.rpartition("/")[2]
    if name not in MACHINES or not _offered(name, scope.rpartition("/")[2]):
        raise errors.invalid("resource.machineType", url, "The machine type is not available in the zone.")
    return name


def _offered(machine: str, zone: str) -> bool:
    accelerator = MACHINES[machine].accelerator
    return not accelerator or zone in ACCELERATORS[accelerator]


def check_throughput_quota(cloud: Cloud, scope: str, more_mibps: int) -> None:
    """
    Raises:
        ApiError: 403 quotaExceeded.
    """
    project, region = scope.split("/")[1], scope.rpartition("/")[2][:-2]
    limit = cloud.faults.quota(HDML_QUOTA, region, QUOTAS[HDML_QUOTA])
    if _usage(cloud, project, region).get(HDML_QUOTA, 0.0) + more_mibps > limit:
        raise errors.quota(HDML_QUOTA, limit, f"region {region}")


def _usage(cloud: Cloud, project: str, region: str) -> dict[str, float]:
    used: dict[str, float] = {}
    for key, resource in cloud.state.under(f"projects/{project}/zones"):
        if not key.split("/")[3].startswith(region + "-"):
            continue
        for metric, amount in _uses(resource):
            used[metric] = used.get(metric, 0.0) + amount
    return used


def _uses(resource: Resource) -> list[tuple[str, float]]:
    if resource["kind"] == "compute#disk":
        return [(HDML_QUOTA, float(resource.get("provisionedThroughput", 0)))]
    machine = MACHINES[resource["machineType"].rpartition("/")[2]]
    uses = [("CPUS", float(machine.cpus)), ("INSTANCES", 1.0)]
    metric = {"nvidia-l4": "NVIDIA_L4_GPUS", "nvidia-h100-80gb": "NVIDIA_H100_GPUS"}.get(machine.accelerator)
    return [*uses, (metric, float(machine.accelerators))] if metric else uses


# Documents ----------------------------------------------------------------------------------------


def _region(cloud: Cloud, project: str, name: str) -> Resource:
    base, used = f"{cloud.base}projects/{project}", _usage(cloud, project, name)
    quotas = [
        {"metric": m, "limit": cloud.faults.quota(m, name, limit), "usage": used.get(m, 0.0)}
        for m, limit in QUOTAS.items()
    ]
    return {
        "kind": "compute#region",
        "id": _number(name),
        "name": name,
        "description": name,
        "status": "UP",
        "quotas": quotas,
        "zones": [f"{base}/zones/{name}-{letter}" for letter in REGIONS[name]],
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
    machine = MACHINES[name]
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
    "machineTypes": (lambda zone: [m for m in MACHINES if _offered(m, zone)], _machine_type),
    "acceleratorTypes": (
        lambda zone: [a for a, where in ACCELERATORS.items() if zone in where],
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
    check_place(call.scope)
    link = f"{call.scope}/{call['kind']}"
    found = [(n, _typed(call, n)) for n in _TYPES[call["kind"]][0](call.scope.rpartition("/")[2])]
    items, token = listing.page(found, call.request.query)
    return listing.document(
        f"{call['kind'][:-1]}List", [r for _, r in items], link=call.cloud.base + link, token=token
    )


def type_(call: Call) -> Resource:
    check_place(call.scope)
    if call["name"] not in _TYPES[call["kind"]][0](call.scope.rpartition("/")[2]):
        raise errors.not_found(call.key)
    return _typed(call, call["name"])


def zone_list(call: Call) -> Resource:
    return _list(call, "zone", [(z, _zone(call.cloud, call["project"], z)) for z in zones()])


def region_list(call: Call) -> Resource:
    return _list(call, "region", [(r, _region(call.cloud, call["project"], r)) for r in REGIONS])


def _list(call: Call, kind: str, found: list[tuple[str, Resource]]) -> Resource:
    items, token = listing.page(found, call.request.query)
    link = f"{call.cloud.base}projects/{call['project']}/{kind}s"
    return listing.document(f"{kind}List", [r for _, r in items], link=link, token=token)


def zone(call: Call) -> Resource:
    if call["name"] not in zones():
        raise errors.not_found(f"projects/{call['project']}/zones/{call['name']}")
    return _zone(call.cloud, call["project"], call["name"])


def region(call: Call) -> Resource:
    if call["name"] not in REGIONS:
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
