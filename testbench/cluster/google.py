"""What the bench itself puts into the fake Google: the nodes' instances and the bucket of the store."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from testbench import config

BOOT_DEVICE = "llm-boot-image"


def ensure_instance(name: str) -> None:
    url = f"{config.GOOGLE}/compute/v1/projects/{config.PROJECT}/zones/{config.ZONE}/instances"
    body = {"name": name, "machineType": f"zones/{config.ZONE}/machineTypes/g2-standard-24"}
    _call("POST", url, body, settled=409)


def relink(name: str) -> None:
    """The devices of its attached disks appear in the node's new root."""
    _call("POST", f"{config.GOOGLE}/_bench/nodes/{name}/relink", {}, settled=404)


def boot_disk(node: str, image: str) -> None:
    """A disk made from an image, attached to a node read-only: what GKE does for a secondary boot disk.

    Raises:
        RuntimeError: there is no such image, or it is not ready.
    """
    place = f"{config.GOOGLE}/compute/v1/projects/{config.PROJECT}/zones/{config.ZONE}"
    disk = {"name": f"{node}-boot-image", "sourceImage": f"global/images/{image}"}
    _done(_call("POST", f"{place}/disks", disk, settled=409))
    attached = {
        "source": f"zones/{config.ZONE}/disks/{node}-boot-image",
        "deviceName": BOOT_DEVICE,
        "mode": "READ_ONLY",
        "autoDelete": True,
    }
    _done(_call("POST", f"{place}/instances/{node}/attachDisk", attached, settled=400))


def image_ready(name: str) -> bool:
    url = f"{config.GOOGLE}/compute/v1/projects/{config.PROJECT}/global/images/{name}"
    return _call("GET", url, None, settled=404).get("status") == "READY"


def node_pool(name: str) -> dict[str, Any]:
    """A node pool of the cluster as GKE's API has it; empty when there is none."""
    place = f"projects/{config.PROJECT}/locations/{config.LOCATION}/clusters/{config.CLUSTER}"
    return _call("GET", f"{config.GOOGLE}/v1/{place}/nodePools/{name}", None, settled=404)


def _done(operation: dict[str, Any]) -> None:
    """Waits for an operation; an empty document is one that was not needed."""
    if not operation:
        return
    url = f"{operation['selfLink']}/wait"
    found = _call("POST", url, {}, settled=0)
    for error in found.get("error", {}).get("errors", []):
        raise RuntimeError(f"{found['operationType']} of {found['targetLink']}: {error['message']}")


def remove_instance(name: str) -> None:
    """One that is gone already is no error."""
    url = f"{config.GOOGLE}/compute/v1/projects/{config.PROJECT}/zones/{config.ZONE}/instances/{name}"
    _call("DELETE", url, None, settled=404)


def ensure_bucket() -> None:
    url = f"{config.STORAGE}/storage/v1/b?project={config.PROJECT}"
    _call("POST", url, {"name": config.BUCKET}, settled=409)


def _call(method: str, url: str, body: dict[str, Any] | None, *, settled: int) -> dict[str, Any]:
    """Status `settled` means that it was so already. -> what was answered, empty then"""
    bearer = config.BEARER.read_text().strip()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {bearer}"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=130) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
            return found
    except urllib.error.HTTPError as e:
        if e.code != settled:
            raise RuntimeError(f"{url} answered {e.code}: {e.read()[:200]!r}") from e
        return {}
