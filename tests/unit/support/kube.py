"""An API server in small: discovery, objects by path, selectors, pod logs, and faults, over a real socket."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration

from llm_release.clients.kubernetes import Kubernetes
from testbench.fakes.web import Request, Response, Server, as_json

GROUPS = {
    "v1": ("Pod", "Event", "Service"),
    "apps/v1": ("Deployment",),
    "coordination.k8s.io/v1": ("Lease",),
}
Json = dict[str, Any]


def _plural(kind: str) -> str:
    return f"{kind.lower()}s"


@dataclass(slots=True)
class Api:
    """Holds what tests put in; every request is kept, and `fault` is asked first.

    Attributes:
        logs: text by pod and container.
        fault: request -> HTTP status to answer with, 0 for none.
    """

    url: str = ""
    objects: dict[str, Json] = field(default_factory=dict)
    logs: dict[tuple[str, str], str] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    fault: Callable[[Request], int] = lambda request: 0

    def put(self, api_version: str, kind: str, name: str, **rest: Any) -> Json:
        """An object of namespace llm."""
        meta = {"name": name, "namespace": "llm", "resourceVersion": "1", **rest.pop("metadata", {})}
        body = {"apiVersion": api_version, "kind": kind, "metadata": meta, **rest}
        self.objects[f"{_base(api_version)}/namespaces/llm/{_plural(kind)}/{name}"] = body
        return body

    def remove(self, kind: str, name: str) -> None:
        for path in [p for p in self.objects if p.endswith(f"/{_plural(kind)}/{name}")]:
            del self.objects[path]

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if status := self.fault(request):
            return _status(status, "as the test wants it")
        path = request.path.rstrip("/")
        if (found := _discovery(path)) is not None:
            return as_json(found)
        if path.endswith("/log"):
            return self._log(path.split("/")[-2], request.query)
        if request.method == "PUT":
            return self._replace(path, json.loads(request.body))
        if path in self.objects:
            return as_json(self.objects[path])
        if path.rpartition("/")[2] in {_plural(k) for kinds in GROUPS.values() for k in kinds}:
            return self._list(path, request.query)
        return _status(404, f"{path} not found")

    def _log(self, pod: str, query: Mapping[str, str]) -> Response:
        if not any(p.endswith(f"/pods/{pod}") for p in self.objects):
            return _status(404, f"pods {pod} not found")
        text = self.logs.get((pod, query.get("container", "")))
        if text is None:
            return _status(400, "container is waiting to start")
        return Response(body=text.encode()[: int(query.get("limitBytes", len(text.encode())))])

    def _replace(self, path: str, body: Json) -> Response:
        if body["metadata"]["resourceVersion"] != self.objects[path]["metadata"]["resourceVersion"]:
            return _status(409, "the object has been modified")
        body["metadata"]["resourceVersion"] = str(int(body["metadata"]["resourceVersion"]) + 1)
        self.objects[path] = body
        return as_json(body)

    def _list(self, path: str, query: Mapping[str, str]) -> Response:
        wanted = [pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair]
        about = query.get("fieldSelector", "").removeprefix("involvedObject.name=")
        items = [
            copy.deepcopy(o)
            for p, o in self.objects.items()
            if p.rpartition("/")[0] == path
            and all((o["metadata"].get("labels") or {}).get(k) == v for k, v in wanted)
            and (not about or o.get("involvedObject", {}).get("name") == about)
        ]
        return as_json({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})


def _base(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _discovery(path: str) -> Json | None:
    if path == "/version":
        return {"major": "1", "minor": "36"}
    if path == "/apis":
        versions = [
            (g.split("/"), {"groupVersion": g, "version": g.split("/")[1]}) for g in GROUPS if "/" in g
        ]
        groups = [{"name": g[0], "versions": [v], "preferredVersion": v} for g, v in versions]
        return {"kind": "APIGroupList", "groups": groups}
    for version, kinds in GROUPS.items():
        if path == _base(version):
            resources = [
                {"name": _plural(k), "kind": k, "namespaced": True, "verbs": ["get", "list", "update"]}
                for k in kinds
            ]
            return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
    return None


def _status(code: int, message: str) -> Response:
    return as_json({"kind": "Status", "status": "Failure", "code": code, "message": message}, code)


@pytest.fixture
def api() -> Iterator[Api]:
    held = Api()
    server = Server(("127.0.0.1", 0), held)
    server.start()
    held.url = server.url
    yield held
    server.stop()


@pytest.fixture
def kube(api: Api, tmp_path: Path) -> Kubernetes:
    """The product's client of that server."""
    settings = Configuration(host=api.url)
    settings.retries = False
    return Kubernetes(ApiClient(settings), discovery_cache=str(tmp_path / "discovery.json"))
