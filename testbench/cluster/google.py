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
    _post(url, body, exists=409)


def ensure_bucket() -> None:
    _post(f"{config.STORAGE}/storage/v1/b?project={config.PROJECT}", {"name": config.BUCKET}, exists=409)


def _post(url: str, body: dict[str, Any], *, exists: int) -> None:
    bearer = config.BEARER.read_text().strip()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {bearer}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError as e:
        if e.code != exists:
            raise RuntimeError(f"{url} answered {e.code}: {e.read()[:200]!r}") from e
