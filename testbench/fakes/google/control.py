"""The bench's own endpoint below /_bench/: faults, revoked tokens, writes, devices. Not part of Google's API.

Only loopback and the bench's bridge reach it; nothing in the product knows it.
"""

from __future__ import annotations

import json
from pathlib import Path

from testbench.fakes.google.cloud import Cloud
from testbench.fakes.google.devices import Attachment, release_all
from testbench.fakes.web import Request, Response, as_json, find, route


class Control:
    """Handles the paths below /_bench/."""

    def __init__(self, cloud: Cloud, writes: Path) -> None:
        self._cloud = cloud
        self._writes = writes
        self._routes = [
            route("GET", "/_bench/faults", self._faults),
            route("POST", "/_bench/faults", self._add_fault),
            route("DELETE", "/_bench/faults", self._clear),
            route("POST", "/_bench/release", self._release),
            route("POST", "/_bench/revoke", self._revoke),
            route("DELETE", "/_bench/revoke", self._restore),
            route("GET", "/_bench/writes", self._written),
            route("GET", "/_bench/resources", self._resources),
            route("POST", "/_bench/nodes/{instance}/relink", self._relink),
        ]

    def __call__(self, request: Request) -> Response:
        found = find(self._routes, request.method, request.path)
        if found is None:
            return as_json({"error": f"no {request.method} {request.path}"}, 404)
        return found[0].handler(request, **found[1])

    def _faults(self, request: Request) -> Response:
        return as_json({"faults": self._cloud.faults.listed()})

    def _add_fault(self, request: Request) -> Response:
        try:
            self._cloud.faults.add(request.json())
        except ValueError as e:
            return as_json({"error": str(e)}, 400)
        return self._faults(request)

    def _clear(self, request: Request) -> Response:
        self._cloud.faults.clear()
        self._cloud.operations.release()
        return self._faults(request)

    def _release(self, request: Request) -> Response:
        self._cloud.operations.release()
        return as_json({})

    def _revoke(self, request: Request) -> Response:
        return as_json({"revoked": self._cloud.identity.revoke()})

    def _restore(self, request: Request) -> Response:
        self._cloud.identity.restore()
        return as_json({})

    def _written(self, request: Request) -> Response:
        since = float(request.query.get("since", 0))
        lines = self._writes.read_text().splitlines() if self._writes.exists() else []
        return as_json({"writes": [w for w in map(json.loads, lines) if w["time"] >= since]})

    def _resources(self, request: Request) -> Response:
        with self._cloud.state.lock:
            return as_json({"resources": self._cloud.state.held.resources})

    def _relink(self, request: Request, instance: str) -> Response:
        return as_json({"relinked": relink(self._cloud, instance)})


def clean(cloud: Cloud) -> list[str]:
    """Frees loop devices that an earlier life of this fake made and had no time to write down."""
    known = {fields["loop"] for fields in cloud.state.held.devices.values()}
    return release_all(cloud.devices.disks, keep=known)


def relink(cloud: Cloud, instance: str = "") -> int:
    """Makes the devices of a node (of all nodes) anew where they are gone: after its or our restart."""
    made_again = 0
    for key, fields in list(cloud.state.held.devices.items()):
        made = Attachment(**fields)
        if instance not in ("", made.instance) or not cloud.devices.is_node(made.instance):
            continue
        if not cloud.devices.holds(made):
            made = _attached_again(cloud, key, made)
        cloud.devices.link(made)
        made_again += 1
    return made_again


def _attached_again(cloud: Cloud, key: str, lost: Attachment) -> Attachment:
    """The loop device is gone (the machine was restarted): a new one for the same attachment."""
    instance, _, device = key.rpartition("/")
    entry = next(d for d in cloud.state.need(instance)["disks"] if d["deviceName"] == device)
    made = cloud.devices.attach(
        lost.instance,
        lost.disk,
        lost.device,
        size_gib=int(entry["diskSizeGb"]),
        read_only=entry["mode"] == "READ_ONLY",
    )
    with cloud.state.changing() as held:
        held.devices[key]["loop"] = made.loop
    return made
