"""What the fake region offers: zones, machine types, accelerators, quotas, and checks against them.

The figures are those of the real machine series as far as a release looks at them; prices and availability
are not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from testbench.fakes.google import errors, rules
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
    if name not in MACHINES or not offered(name, scope.rpartition("/")[2]):
        raise errors.invalid("resource.machineType", url, "The machine type is not available in the zone.")
    return name


def offered(machine: str, zone: str) -> bool:
    accelerator = MACHINES[machine].accelerator
    return not accelerator or zone in ACCELERATORS[accelerator]


def check_throughput_quota(cloud: Cloud, scope: str, more_mibps: int) -> None:
    """
    Raises:
        ApiError: 403 quotaExceeded.
    """
    project, region = scope.split("/")[1], scope.rpartition("/")[2][:-2]
    limit = cloud.faults.quota(HDML_QUOTA, region, QUOTAS[HDML_QUOTA])
    if usage(cloud, project, region).get(HDML_QUOTA, 0.0) + more_mibps > limit:
        raise errors.quota(HDML_QUOTA, limit, f"region {region}")


def usage(cloud: Cloud, project: str, region: str) -> dict[str, float]:
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
