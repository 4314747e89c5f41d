"""Compute Engine disks: create, seal, label, delete, and the operations that do it.

The library's own `.result()` polls compute.googleapis.com whatever endpoint was given, and has no
deadline; operations are read through our own client here, and waited for by whoever has the time.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as google_errors
from google.api_core.client_options import ClientOptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import compute_v1

from llm_release.core.errors import Conflict, Permanent, ReleaseError, Transient, Unavailable

TIMEOUT_S = 30
READ_ONLY_MANY = "READ_ONLY_MANY"
HYPERDISK_ML = "hyperdisk-ml"

_FULL = ("QUOTA_EXCEEDED", "ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS")
_LATER = ("RATE_LIMIT_EXCEEDED", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "RESOURCE_OPERATION_RATE_EXCEEDED")


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


@dataclass(frozen=True, slots=True)
class Operation:
    """A running or finished change; `error` is set only when it is done and failed."""

    name: str
    zone: str
    done: bool
    error: ReleaseError | None = None
    seconds: float = 0.0


class Disks:
    """Disks of one project. Every method raises Permanent, Transient, Conflict or Unavailable."""

    def __init__(self, *, project: str, credentials: Any, endpoint: str | None = None) -> None:
        options = ClientOptions(api_endpoint=endpoint) if endpoint else None
        self.project = project
        self._disks = compute_v1.DisksClient(credentials=credentials, client_options=options)
        self._operations = compute_v1.ZoneOperationsClient(credentials=credentials, client_options=options)

    def get(self, zone: str, name: str) -> Disk | None:
        """None when there is no such disk."""
        with _told(f"read disk {name}"):
            try:
                found = self._disks.get(project=self.project, zone=zone, disk=name, timeout=TIMEOUT_S)
            except google_errors.NotFound:
                return None
        return _disk(found)

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
        with _told(f"create disk {name}"):
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
        with _told(f"seal disk {name}"):
            return self._started(zone, self._disks.update(request=request, timeout=TIMEOUT_S))

    def delete(self, zone: str, name: str) -> Operation | None:
        """None when it was not there. A disk in use is refused by Compute: Conflict."""
        with _told(f"delete disk {name}"):
            try:
                return self._started(
                    zone, self._disks.delete(project=self.project, zone=zone, disk=name, timeout=TIMEOUT_S)
                )
            except google_errors.NotFound:
                return None

    def operation(self, zone: str, name: str) -> Operation:
        """Looks at a change once; it does not wait."""
        with _told(f"read operation {name}"):
            found = self._operations.get(project=self.project, zone=zone, operation=name, timeout=TIMEOUT_S)
        return _operation(zone, found)

    def _started(self, zone: str, extended: Any) -> Operation:
        return self.operation(zone, extended.name)


def _disk(d: Any) -> Disk:
    return Disk(
        name=d.name,
        id=str(d.id),
        zone=_last(d.zone),
        kind=_last(d.type_),
        size_gib=int(d.size_gb),
        throughput_mibps=int(d.provisioned_throughput),
        access_mode=d.access_mode,
        status=d.status,
        users=tuple(_last(u) for u in d.users),
        labels=dict(d.labels),
    )


def _operation(zone: str, o: Any) -> Operation:
    if o.status != compute_v1.Operation.Status.DONE:
        return Operation(o.name, zone, False)
    errors = list(o.error.errors) if o.error else []
    if not errors:
        return Operation(o.name, zone, True)
    return Operation(o.name, zone, True, _failed(str(errors[0].code), str(errors[0].message)))


def _failed(code: str, message: str) -> ReleaseError:
    """Errors of an operation come with HTTP 200, inside the finished operation."""
    said = f"Compute refused: {message.rstrip('.')} ({code})."
    if code in _FULL:
        return Permanent(said, next_action="raise the quota or choose another zone, then trigger again.")
    if code in _LATER:
        return Transient(said, next_action="the task will try again.")
    if "IN_USE" in code.upper() or code == "resourceInUseByAnotherResource":
        return Conflict(said, next_action="wait until the named user is gone, then clear this task.")
    return Permanent(said, next_action="correct what it names, then trigger again.")


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except (
        google_errors.Conflict,
        google_errors.BadRequest,
        google_errors.Forbidden,
        google_errors.NotFound,
    ) as e:
        raise _refused(what, e) from e
    except (google_errors.TooManyRequests, google_errors.ServerError) as e:
        raise Transient(
            f"could not {what}: Compute answered {e.code}: {_said(e)}.",
            next_action="the task will try again.",
        ) from e
    except google_errors.GoogleAPICallError as e:
        raise Permanent(f"could not {what}: {_said(e)}.", next_action="correct what it names.") from e
    except (google_errors.RetryError, GoogleAuthError, OSError) as e:
        raise Unavailable(
            f"Compute could not be reached to {what}: {_said(e)}.",
            next_action="check the connection's endpoint and credentials.",
        ) from e


def _refused(what: str, e: google_errors.GoogleAPICallError) -> ReleaseError:
    reason = next((str(d.get("reason", "")) for d in e.errors if isinstance(d, Mapping)), "")
    said = f"could not {what}: {_said(e)}."
    if isinstance(e, google_errors.Conflict) or reason == "resourceInUseByAnotherResource":
        return Conflict(said, next_action="look at who uses it; nothing was forced.")
    if "quota" in reason.lower():
        return Permanent(said, next_action="raise that quota or choose another region, then trigger again.")
    if isinstance(e, google_errors.Forbidden):
        return Permanent(said, next_action="grant the connection's account that permission (docs/gke.md).")
    return Permanent(said, next_action="correct what it names.")


def _said(e: BaseException) -> str:
    text = getattr(e, "message", "") or str(e)
    return str(text).splitlines()[0][:300].rstrip(".") if text else type(e).__name__


def _last(url: str) -> str:
    return url.rsplit("/", 1)[-1]
