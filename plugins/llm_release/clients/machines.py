"""Compute Engine machines that do one thing and go, and the disk images that they leave."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as google_errors
from google.api_core.client_options import ClientOptions
from google.cloud import compute_v1

from llm_release.clients.operations import TIMEOUT_S, Operation, Operations, last, told

BOOT_GIB = 10
_NOT_TOLD = (
    google_errors.NotFound,
    google_errors.Forbidden,
    google_errors.BadRequest,
    google_errors.PreconditionFailed,
)
"""Of a guest attribute: not set yet, or the whole of them switched off by policy."""


@dataclass(frozen=True, slots=True)
class Image:
    """A disk image as the API reports it."""

    name: str
    id: str
    status: str
    size_gib: int
    labels: Mapping[str, str]
    label_fingerprint: str
    created: str = ""
    """RFC 3339."""


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance as the API reports it."""

    name: str
    id: str
    status: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A machine that is wanted: no address of its own, shielded, deleted by Compute itself after `within` seconds."""

    name: str
    kind: str
    """Machine type, such as n2-standard-8."""
    boot_image: str
    """Of the boot disk: a family or an image, projects/<project>/global/images/..."""
    boot_gib: int
    work_disk: str
    """Disk in the same zone, seen in the machine as google-llm-release-image."""
    read_only: bool
    subnetwork: str
    service_account: str
    """E-mail, or "default"; empty for none."""
    metadata: Mapping[str, str]
    labels: Mapping[str, str]
    within: int


class Machines:
    """Machines and images of one project. Every method raises Permanent, Transient, Conflict or Unavailable."""

    def __init__(self, *, project: str, credentials: Any, endpoint: str | None = None) -> None:
        options = ClientOptions(api_endpoint=endpoint) if endpoint else None
        clients = {"credentials": credentials, "client_options": options}
        self.project = project
        self._images = compute_v1.ImagesClient(**clients)
        self._instances = compute_v1.InstancesClient(**clients)
        self._disks = compute_v1.DisksClient(**clients)
        self._operations = Operations(project=project, credentials=credentials, options=options)

    def image(self, name: str) -> Image | None:
        """None when there is no such image."""
        with told(f"read image {name}"):
            try:
                found = self._images.get(project=self.project, image=name, timeout=TIMEOUT_S)
            except google_errors.NotFound:
                return None
        return _image(found)

    def images(self, *, labels: Mapping[str, str]) -> tuple[Image, ...]:
        """Those of the project that have all of these labels."""
        asked = " AND ".join(f"labels.{k}={v}" for k, v in labels.items())
        request = compute_v1.ListImagesRequest(project=self.project, filter=asked)
        with told("list images"):
            return tuple(_image(i) for i in self._images.list(request=request, timeout=TIMEOUT_S))

    def create_image(
        self,
        name: str,
        *,
        zone: str,
        disk: str,
        family: str,
        labels: Mapping[str, str],
        description: str,
        location: str = "",
    ) -> Operation:
        """A copy of a disk that nothing has attached.

        Args:
            location: region or multi-region to store it in; empty for the one nearest to the disk.
        """
        image = compute_v1.Image(
            name=name,
            family=family,
            source_disk=f"projects/{self.project}/zones/{zone}/disks/{disk}",
            labels=dict(labels),
            description=description,
            storage_locations=[location] if location else [],
        )
        with told(f"create image {name}"):
            started = self._images.insert(project=self.project, image_resource=image, timeout=TIMEOUT_S)
            return self._operations.look("", started.name)

    def label_image(self, image: Image, labels: Mapping[str, str]) -> Operation:
        """Replaces all labels; refused (Conflict) when they changed since `image` was read."""
        wish = compute_v1.GlobalSetLabelsRequest(
            labels=dict(labels), label_fingerprint=image.label_fingerprint
        )
        with told(f"label image {image.name}"):
            started = self._images.set_labels(
                project=self.project,
                resource=image.name,
                global_set_labels_request_resource=wish,
                timeout=TIMEOUT_S,
            )
            return self._operations.look("", started.name)

    def delete_image(self, name: str) -> Operation | None:
        """None when it was not there."""
        with told(f"delete image {name}"):
            try:
                started = self._images.delete(project=self.project, image=name, timeout=TIMEOUT_S)
            except google_errors.NotFound:
                return None
            return self._operations.look("", started.name)

    def create_disk(
        self, zone: str, name: str, *, size_gib: int, labels: Mapping[str, str], image: str = ""
    ) -> Operation:
        """A balanced persistent disk, empty or from one of the project's images."""
        disk = compute_v1.Disk(
            name=name,
            size_gb=size_gib,
            type_=f"projects/{self.project}/zones/{zone}/diskTypes/pd-balanced",
            labels=dict(labels),
        )
        if image:
            disk.source_image = f"projects/{self.project}/global/images/{image}"
        with told(f"create disk {name}"):
            started = self._disks.insert(
                project=self.project, zone=zone, disk_resource=disk, timeout=TIMEOUT_S
            )
            return self._operations.look(zone, started.name)

    def machine(self, zone: str, name: str) -> Machine | None:
        """None when there is no such instance."""
        with told(f"read machine {name}"):
            try:
                found = self._instances.get(project=self.project, zone=zone, instance=name, timeout=TIMEOUT_S)
            except google_errors.NotFound:
                return None
        return Machine(found.name, str(found.id), found.status, dict(found.labels))

    def create_machine(self, zone: str, wish: Wish) -> Operation:
        body = self._instance(zone, wish)
        request = compute_v1.InsertInstanceRequest(
            project=self.project, zone=zone, instance_resource=body, request_id=str(uuid.uuid4())
        )
        with told(f"create machine {wish.name}"):
            started = self._instances.insert(request=request, timeout=TIMEOUT_S)
            return self._operations.look(zone, started.name)

    def delete_machine(self, zone: str, name: str) -> Operation | None:
        """None when it was not there."""
        with told(f"delete machine {name}"):
            try:
                started = self._instances.delete(
                    project=self.project, zone=zone, instance=name, timeout=TIMEOUT_S
                )
            except google_errors.NotFound:
                return None
            return self._operations.look(zone, started.name)

    def serial(self, zone: str, name: str, start: int) -> tuple[str, int]:
        """What serial port 1 printed from byte `start` on, and where to read on; nothing of a machine that is gone.

        Compute keeps the last MiB.
        """
        request = compute_v1.GetSerialPortOutputInstanceRequest(
            project=self.project, zone=zone, instance=name, port=1, start=start
        )
        with told(f"read the serial port of {name}"):
            try:
                found = self._instances.get_serial_port_output(request=request, timeout=TIMEOUT_S)
            except google_errors.NotFound:
                return "", start
        return found.contents, int(found.next_)

    def attribute(self, zone: str, name: str, key: str) -> str:
        """A guest attribute ("namespace/key") that something in the machine set; empty while there is none."""
        request = compute_v1.GetGuestAttributesInstanceRequest(
            project=self.project, zone=zone, instance=name, query_path=key
        )
        with told(f"read guest attribute {key} of {name}"):
            try:
                found = self._instances.get_guest_attributes(request=request, timeout=TIMEOUT_S)
            except (
                google_errors.NotFound,
                google_errors.Forbidden,
            ):  # not set yet, or switched off by policy
                return ""
        return next((item.value for item in found.query_value.items), "")

    def _instance(self, zone: str, wish: Wish) -> compute_v1.Instance:
        boot = compute_v1.AttachedDisk(
            boot=True,
            auto_delete=True,
            initialize_params=compute_v1.AttachedDiskInitializeParams(
                disk_name=f"{wish.name}-boot",  # without one it is the machine's, which the work disk may have
                source_image=wish.boot_image,
                disk_size_gb=wish.boot_gib,
                disk_type=f"projects/{self.project}/zones/{zone}/diskTypes/pd-balanced",
                labels=dict(wish.labels),
            ),
        )
        work = compute_v1.AttachedDisk(
            source=f"projects/{self.project}/zones/{zone}/disks/{wish.work_disk}",
            device_name="llm-release-image",
            mode="READ_ONLY" if wish.read_only else "READ_WRITE",
            auto_delete=False,
        )
        account = compute_v1.ServiceAccount(
            email=wish.service_account, scopes=["https://www.googleapis.com/auth/cloud-platform"]
        )
        return compute_v1.Instance(
            name=wish.name,
            machine_type=f"zones/{zone}/machineTypes/{last(wish.kind)}",
            disks=[boot, work],
            network_interfaces=[compute_v1.NetworkInterface(subnetwork=wish.subnetwork)],
            service_accounts=[account] if wish.service_account else [],
            metadata=compute_v1.Metadata(
                items=[compute_v1.Items(key=k, value=v) for k, v in wish.metadata.items()]
            ),
            labels=dict(wish.labels),
            shielded_instance_config=compute_v1.ShieldedInstanceConfig(
                enable_secure_boot=True, enable_vtpm=True, enable_integrity_monitoring=True
            ),
            scheduling=compute_v1.Scheduling(
                automatic_restart=False,
                on_host_maintenance="MIGRATE",
                max_run_duration=compute_v1.Duration(seconds=wish.within),
                instance_termination_action="DELETE",
            ),
        )


def _image(found: compute_v1.Image) -> Image:
    return Image(
        name=found.name,
        id=str(found.id),
        status=found.status,
        size_gib=int(found.disk_size_gb),
        labels=dict(found.labels),
        label_fingerprint=found.label_fingerprint,
        created=found.creation_timestamp,
    )
