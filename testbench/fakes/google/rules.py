"""What Compute Engine allows, as pure functions over its documents. They raise its own errors.

Sources: the Compute API reference, the Hyperdisk ML page (limits of 2026-03-31), and the behaviour that the
PD CSI driver's tests rely on. Not modelled: the pause between two changes of size or throughput, attach-rate
limits and machine-series compatibility.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping

from testbench.fakes.google import errors
from testbench.fakes.google.messages import Resource

HYPERDISK_ML = "hyperdisk-ml"
DISK_TYPES: Mapping[str, tuple[int, int, int]] = {
    # type: (minimum, maximum, default size) in GiB
    "pd-standard": (10, 65536, 500),
    "pd-balanced": (10, 65536, 100),
    "pd-ssd": (10, 65536, 100),
    "hyperdisk-balanced": (4, 65536, 100),
    "hyperdisk-extreme": (64, 65536, 1000),
    "hyperdisk-throughput": (2048, 32768, 2048),
    HYPERDISK_ML: (4, 65536, 100),
}
MAX_HDML_THROUGHPUT = 2_097_152
"""MiB/s, since 2026-03-31."""

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")


def check_name(document: Resource) -> None:
    name = document.get("name", "")
    if not _NAME.fullmatch(name):
        raise errors.invalid(
            "resource.name", name, "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'"
        )


def check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > 64:
        raise errors.invalid("resource.labels", len(labels), "At most 64 labels are allowed.")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise errors.invalid("resource.labels", key, "Label key contains invalid characters.")
        if not _LABEL_VALUE.fullmatch(value):
            raise errors.invalid("resource.labels", value, "Label value contains invalid characters.")


def fingerprint(labels: Mapping[str, str]) -> str:
    """Changes with the labels; setLabels must carry the one that it read."""
    text = "\0".join(f"{k}={v}" for k, v in sorted(labels.items()))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


def size_gib(document: Resource, kind: str, source_gib: int) -> int:
    """Size of a new disk: as asked, else the source's, else the type's default."""
    least, most, default = DISK_TYPES[kind]
    size = int(document.get("sizeGb", 0)) or source_gib or default
    if size < source_gib:
        raise errors.invalid(
            "resource.sizeGb",
            size,
            f"Requested disk size cannot be smaller than the source size ({source_gib} GB)",
        )
    least = min(least, source_gib) if source_gib else least
    if not least <= size <= most:
        raise errors.invalid(
            "resource.sizeGb", size, f"Disk size must be between {least} GB and {most} GB for {kind}."
        )
    return size


def throughput_mibps(document: Resource, size: int) -> int:
    """Throughput of a Hyperdisk ML: as asked within the limits of its size, else the default of its size."""
    least = max(400, math.ceil(0.12 * size))
    most = min(1600 * size, MAX_HDML_THROUGHPUT)
    asked = int(document.get("provisionedThroughput", 0)) or max(24 * size, 400)
    if not least <= asked <= most:
        raise errors.invalid(
            "resource.provisionedThroughput",
            asked,
            f"Provisioned throughput must be between {least} and {most} for a disk of {size} GB.",
        )
    return asked


def access_mode(document: Resource, kind: str, *, from_source: bool) -> str:
    """Access mode of a new disk. A Hyperdisk ML from an image or a snapshot can only be read."""
    asked = str(document.get("accessMode", "READ_WRITE_SINGLE"))
    allowed = {HYPERDISK_ML: ("READ_WRITE_SINGLE", "READ_ONLY_MANY")}.get(
        kind,
        ("READ_WRITE_SINGLE", "READ_WRITE_MANY") if kind.startswith("hyperdisk") else ("READ_WRITE_SINGLE",),
    )
    if asked not in allowed:
        raise errors.invalid(
            "resource.accessMode", asked, f"Access mode is not supported for disk type {kind}."
        )
    if kind == HYPERDISK_ML and from_source and asked != "READ_ONLY_MANY":
        raise errors.invalid(
            "resource.accessMode", asked, "A hyperdisk-ml disk created from a source must be READ_ONLY_MANY."
        )
    return asked


def check_new_access_mode(disk: Resource, wanted: str, key: str) -> None:
    """READ_WRITE_SINGLE -> READ_ONLY_MANY only, and only while nothing has the disk attached."""
    now = disk.get("accessMode", "READ_WRITE_SINGLE")
    if wanted not in ("READ_WRITE_SINGLE", "READ_ONLY_MANY", "READ_WRITE_MANY"):
        raise errors.invalid("accessMode", wanted, "Unknown access mode.")
    if wanted == now:
        return
    if disk.get("users"):
        raise errors.in_use("disk", key, disk["users"][0])
    if (
        not disk["type"].endswith(f"/{HYPERDISK_ML}")
        or now == "READ_ONLY_MANY"
        or wanted == "READ_WRITE_MANY"
    ):
        raise errors.invalid("accessMode", wanted, f"Access mode cannot be changed from {now}.")


def check_attach(disk: Resource, key: str, *, instance: str, read_only: bool, held_read_only: bool) -> None:
    """Whether the disk can be attached in this mode beside its present users."""
    if disk["status"] != "READY":
        raise errors.not_ready(key)
    mode = disk.get("accessMode", "READ_WRITE_SINGLE")
    if mode == "READ_ONLY_MANY" and not read_only:
        raise errors.ApiError(
            400,
            "invalid",
            f"Disk '{key}' has access mode READ_ONLY_MANY and must be attached in mode READ_ONLY.",
        )
    users = disk.get("users", [])
    if not users or mode == "READ_WRITE_MANY":
        return
    persistent = disk["type"].rpartition("/")[2].startswith("pd-")
    shared = mode == "READ_ONLY_MANY" or (persistent and read_only and held_read_only)
    if instance in users or not shared:
        raise errors.in_use("disk", key, users[0])
