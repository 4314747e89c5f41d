"""Request bodies, parsed by the message classes of Google's own client library.

A field that the service does not have, or a value of the wrong type, is refused here with the service's 400.
What passes is kept as the API's own JSON (camelCase, 64-bit integers as strings): a resource is that document.
"""

from __future__ import annotations

import json
from typing import Any

from google.cloud import compute_v1, container_v1
from google.protobuf import json_format

from testbench.fakes.google.errors import ApiError

Resource = dict[str, Any]

_CLASSES: dict[str, Any] = {
    "disks": compute_v1.Disk,
    "images": compute_v1.Image,
    "snapshots": compute_v1.Snapshot,
    "instances": compute_v1.Instance,
    "attachedDisk": compute_v1.AttachedDisk,
    "disksResize": compute_v1.DisksResizeRequest,
    "zoneSetLabels": compute_v1.ZoneSetLabelsRequest,
    "globalSetLabels": compute_v1.GlobalSetLabelsRequest,
    "instancesSetLabels": compute_v1.InstancesSetLabelsRequest,
    "createNodePool": container_v1.CreateNodePoolRequest,
    "testPermissions": compute_v1.TestPermissionsRequest,
}


def parse(kind: str, body: bytes) -> Resource:
    """
    Raises:
        ApiError: 400, with what the parser says, as the service does.
    """
    message = _CLASSES[kind]
    try:
        return dict(json_format.MessageToDict(message.pb(message.from_json(body.decode() or "{}"))))
    except (json_format.ParseError, UnicodeDecodeError) as e:
        said = " ".join(str(e).split())
        raise ApiError(400, "parseError", f"Invalid JSON payload received. {said}") from e


def read_only_fields(document: Resource) -> Resource:
    """The document without what only the service may set."""
    served = {"kind", "id", "selfLink", "status", "creationTimestamp", "users", "labelFingerprint", "zone"}
    return {k: v for k, v in document.items() if k not in served}


def dump(document: Resource) -> str:
    return json.dumps(document, separators=(",", ":"), sort_keys=True)
