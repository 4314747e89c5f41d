"""What the bench itself puts into the fake Google: the nodes' instances and the bucket of the store."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from testbench import config


def ensure_instance(name: str) -> None:
    url = f"{config.GOOGLE}/compute/v1/projects/{config.PROJECT}/zones/{config.ZONE}/instances"
    body = {"name": name, "machineType": f"zones/{config.ZONE}/machineTypes/g2-standard-24"}
    _call("POST", url, body, settled=409)


def relink(name: str) -> None:
    """The devices of its attached disks appear in the node's new root."""
    _call("POST", f"{config.GOOGLE}/_bench/nodes/{name}/relink", {}, settled=404)


def remove_instance(name: str) -> None:
    """One that is gone already is no error."""
    url = f"{config.GOOGLE}/compute/v1/projects/{config.PROJECT}/zones/{config.ZONE}/instances/{name}"
    _call("DELETE", url, None, settled=404)


def ensure_bucket() -> None:
    url = f"{config.STORAGE}/storage/v1/b?project={config.PROJECT}"
    _call("POST", url, {"name": config.BUCKET}, settled=409)


def _call(method: str, url: str, body: dict[str, Any] | None, *, settled: int) -> None:
    """Status `settled` means that it was so already."""
    bearer = config.BEARER.read_text().strip()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {bearer}"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError as e:
        if e.code != settled:
            raise RuntimeError(f"{url} answered {e.code}: {e.read()[:200]!r}") from e
