"""Compute Engine disks: create, seal, delete, and the operations that do it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as google_errors
from google.api_core.client_options import ClientOptions
from google.cloud import compute_v1

from llm_release.clients.operations import TIMEOUT_S, Operation, Operations, last, told

READ_ONLY_MANY = "READ_ONLY_MANY"
HYPERDISK_ML = "hyperdisk-ml"


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk as the API reports it. Sizes GiB, throughput MiB/s."""

    name: str
    id: str
    zone: str
    kind: str
    size_gib: int
    throughput_mibps: int
    access_mode: str
    status: str
    users: tuple[str, ...]
    """Names of the instances that have it attached."""
    labels: Mapping[str, str]
    label_fingerprint: str
    created: str = ""
    """RFC 3339."""


class Disks:
    """Disks of one project. Every method raises Permanent, Transient, Conflict or Unavailable."""

    def __init__(self, *, project: str, credentials: Any, endpoint: str | None = None) -> None:
        options = ClientOptions(api_endpoint=endpoint) if endpoint else None
        self.project = project
        self._disks = compute_v1.DisksClient(credentials=credentials, client_options=options)
        self._operations = Operations(project=project, credentials=credentials, options=options)

    def get(self, zone: str, name: str) -> Disk | None:
        """None when there is no such disk."""
        with told(f"read disk {name}"):
            try:
                found = self._disks.get(project=self.project, zone=zone, disk=name, timeout=TIMEOUT_S)
            except google_errors.NotFound:
                return None
        return _disk(found)

    def list(self, zone: str, *, labels: Mapping[str, str]) -> tuple[Disk, ...]:
        """Those of a zone that have all of these labels."""
        asked = " AND ".join(f"labels.{k}={v}" for k, v in labels.items())
        request = compute_v1.ListDisksRequest(project=self.project, zone=zone, filter=asked)
        with told(f"list disks in {zone}"):
            return tuple(_disk(d) for d in self._disks.list(request=request, timeout=TIMEOUT_S))

    def create(
        self,
        zone: str,
        name: str,
        *,
        size_gib: int,
        throughput_mibps: int,
        labels: Mapping[str, str],
        description: str,
    ) -> Operation:
        """Asks for an empty Hyperdisk ML; the same request twice is one disk (request id from the name)."""
        disk = compute_v1.Disk(
            name=name,
            size_gb=size_gib,
            type_=f"projects/{self.project}/zones/{zone}/diskTypes/{HYPERDISK_ML}",
            provisioned_throughput=throughput_mibps,
            access_mode="READ_WRITE_SINGLE",
            labels=dict(labels),
            description=description,
        )
        request = compute_v1.InsertDiskRequest(project=self.project, zone=zone, disk_resource=disk)
        with told(f"create disk {name}"):
            return self._started(zone, self._disks.insert(request=request, timeout=TIMEOUT_S))

    def seal(self, zone: str, name: str) -> Operation:
        """READ_WRITE_SINGLE -> READ_ONLY_MANY: one way, and only while nothing has it attached."""
        request = compute_v1.UpdateDiskRequest(
            project=self.project,
            zone=zone,
            disk=name,
            paths="accessMode",
            disk_resource=compute_v1.Disk(name=name, access_mode=READ_ONLY_MANY),
            request_id=str(uuid.uuid4()),
        )
        with told(f"seal disk {name}"):
            return self._started(zone, self._disks.update(request=request, timeout=TIMEOUT_S))

    def label(self, disk: Disk, labels: Mapping[str, str]) -> Operation:
        """Replaces all labels; refused (Conflict) when they changed since `disk` was read."""
        wish = compute_v1.ZoneSetLabelsRequest(labels=dict(labels), label_fingerprint=disk.label_fingerprint)
        with told(f"label disk {disk.name}"):
            started = self._disks.set_labels(
                project=self.project,
                zone=disk.zone,
                resource=disk.name,
                zone_set_labels_request_resource=wish,
                timeout=TIMEOUT_S,
            )
            return self._started(disk.zone, started)

    def resize(self, zone: str, name: str, size_gib: int) -> Operation:
        """Larger, never smaller; also while a machine has it attached."""
        with told(f"resize disk {name}"):
            started = self._disks.resize(
                project=self.project,
                zone=zone,
                disk=name,
                disks_resize_request_resource=compute_v1.DisksResizeRequest(size_gb=size_gib),
                timeout=TIMEOUT_S,
            )
            return self._started(zone, started)

    def delete(self, zone: str, name: str) -> Operation | None:
        """None when it was not there. A disk in use is refused by Compute: Conflict."""
        with told(f"delete disk {name}"):
            try:
                return self._started(
                    zone, self._disks.delete(project=self.project, zone=zone, disk=name, timeout=TIMEOUT_S)
                )
            except google_errors.NotFound:
                return None

    def operation(self, zone: str, name: str) -> Operation:
        """Looks at a change once, of a zone or (zone "") a global one; it does not wait."""
        return self._operations.look(zone, name)

    def _started(self, zone: str, extended: Any) -> Operation:
        return self.operation(zone, extended.name)


def _disk(d: Any) -> Disk:
    return Disk(
        name=d.name,
        id=str(d.id),
        zone=last(d.zone),
        kind=last(d.type_),
        size_gib=int(d.size_gb),
        throughput_mibps=int(d.provisioned_throughput),
        access_mode=d.access_mode,
        status=d.status,
        users=tuple(last(u) for u in d.users),
        labels=dict(d.labels),
        label_fingerprint=d.label_fingerprint,
        created=d.creation_timestamp,
    )
