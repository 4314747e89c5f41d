"""A small API server for the real client: discovery, objects in memory, selectors, writes, pod logs, and faults.

It validates nothing: what the real one does with schemas, owned fields and rights is tested on the bench.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration

from llm_release.clients.kubernetes import Kubernetes
from testbench.fakes.web import Request, Response, Server, as_json

NAMESPACE = "llm"
KINDS: Mapping[str, Mapping[str, tuple[str, bool]]] = {
    "v1": {
        "pods": ("Pod", True),
        "events": ("Event", True),
        "services": ("Service", True),
        "nodes": ("Node", False),
        "configmaps": ("ConfigMap", True),
        "serviceaccounts": ("ServiceAccount", True),
        "namespaces": ("Namespace", False),
    },
    "apps/v1": {"deployments": ("Deployment", True), "statefulsets": ("StatefulSet", True)},
    "batch/v1": {"jobs": ("Job", True)},
    "storage.k8s.io/v1": {"storageclasses": ("StorageClass", False)},
    "rbac.authorization.k8s.io/v1": {
        "clusterroles": ("ClusterRole", False),
        "clusterrolebindings": ("ClusterRoleBinding", False),
        "roles": ("Role", True),
        "rolebindings": ("RoleBinding", True),
    },
    "coordination.k8s.io/v1": {"leases": ("Lease", True)},
    "cloud.google.com/v1": {"computeclasses": ("ComputeClass", False)},
    "node.gke.io/v1": {"gcpresourceallowlists": ("GCPResourceAllowlist", False)},
}
"""By API version and plural: kind, and whether it lives in a namespace."""
Json = dict[str, Any]
Key = tuple[str, str, str]
_VERSION = r"/(?:api|apis)/(?P<version>v1|[^/]+/v1)"
_OBJECT = re.compile(
    _VERSION + r"/(?:namespaces/(?P<namespace>[^/]+)/)?(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?"
)
_LOG = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods/(?P<pod>[^/]+)/log")


@dataclass(slots=True)
class KubeApi:
    """Holds what tests put in and the client writes; `fault` is asked before every answer.

    Attributes:
        objects: by (plural, namespace, name); the namespace is empty for cluster-scoped ones.
        logs: text by pod and container.
        asked: every request.
        writes: "METHOD plural/name" of every change that a client made; Leases are left out.
        fault: request -> HTTP status to answer with, 0 for none.
    """

    objects: dict[Key, Json] = field(default_factory=dict)
    logs: dict[tuple[str, str], str] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    fault: Callable[[Request], int] = lambda request: 0
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _server: Server = field(init=False)

    def start(self) -> None:
        self._server = Server(("127.0.0.1", 0), self)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def client(self, folder: Path) -> Kubernetes:
        """The product's, which keeps what it discovers in that folder."""
        settings = Configuration(host=self._server.url)
        settings.retries = False
        return Kubernetes(ApiClient(settings), discovery_cache=str(folder / "discovery.json"))

    def put(self, api_version: str, kind: str, name: str, **rest: Any) -> Json:
        """Holds an object as if somebody else had made it, in namespace llm unless its metadata names another."""
        plural, namespaced = next((p, n) for p, (k, n) in KINDS[api_version].items() if k == kind)
        meta = {"name": name, **({"namespace": NAMESPACE} if namespaced else {}), **rest.pop("metadata", {})}
        body = {"apiVersion": api_version, "kind": kind, "metadata": meta, **rest}
        return self._hold((plural, meta.get("namespace", ""), name), body)

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if status := self.fault(request):
            return _status(status, "as the test wants it")
        if (answer := _discovery(request.path)) is not None:
            return as_json(answer)
        if log := _LOG.fullmatch(request.path):
            return self._log(request, log["namespace"], log["pod"])
        at = _OBJECT.fullmatch(request.path)
        if at is None or at["plural"] not in KINDS.get(at["version"], {}):
            return _missing(request)
        key = (at["plural"], at["namespace"] or "", at["name"] or "")
        typed = {"apiVersion": at["version"], "kind": KINDS[at["version"]][at["plural"]][0]}
        if request.method in ("PATCH", "PUT", "POST"):
            return self._write(request, key, typed | request.json())
        if not at["name"]:
            items = [o for k, o in self.objects.items() if _listed(k, o, key, request.query)]
            return as_json({**typed, "kind": f"{typed['kind']}List", "metadata": {}, "items": items})
        if key not in self.objects:
            return _missing(request)
        if request.method == "DELETE":
            self.writes.append(f"DELETE {key[0]}/{key[2]}")
            return as_json(self.objects.pop(key))
        return as_json(self.objects[key])

    def _log(self, request: Request, namespace: str, pod: str) -> Response:
        if ("pods", namespace, pod) not in self.objects:
            return _missing(request)
        text = self.logs.get((pod, request.query.get("container", "")))
        if text is None:
            return _status(400, "container is waiting to start")
        limit = request.query.get("limitBytes")
        return Response(body=text.encode()[: int(limit) if limit else None])

    def _write(self, request: Request, key: Key, body: Json) -> Response:
        meta = {"name": key[2], **({"namespace": key[1]} if key[1] else {})} | body["metadata"]
        key, body["metadata"] = (key[0], key[1], meta["name"]), meta
        before = self.objects.get(key)
        if before is None:
            merge = request.headers["content-type"] == "application/merge-patch+json"
            if merge or request.method == "PUT":
                return _missing(request)
        elif request.method == "POST":
            return _status(409, f"{key[2]} already exists")
        elif meta.get("resourceVersion") not in (None, before["metadata"]["resourceVersion"]):
            return _status(409, "the object has been modified")
        elif request.method == "PUT":
            meta["uid"] = before["metadata"]["uid"]
        after = _merged(before, body) if request.method == "PATCH" else body
        if before is not None and after == before:
            return as_json(before)
        if key[0] != "leases":
            self.writes.append(f"{request.method} {key[0]}/{key[2]}")
        return as_json(self._hold(key, after))

    def _hold(self, key: Key, body: Json) -> Json:
        meta = body["metadata"]
        meta.setdefault("uid", f"uid-{next(self._versions)}")
        meta["resourceVersion"] = str(next(self._versions))
        self.objects[key] = body
        return body


def _listed(key: Key, o: Json, wanted: Key, query: Mapping[str, str]) -> bool:
    labels = _pairs(query.get("labelSelector", "")).items() <= (o["metadata"].get("labels") or {}).items()
    fields = all(_field(o, path) == value for path, value in _pairs(query.get("fieldSelector", "")).items())
    return key[0] == wanted[0] and wanted[1] in ("", key[1]) and labels and fields


def _pairs(selector: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in selector.split(",") if pair)


def _field(o: Any, path: str) -> Any:
    for name in path.split("."):
        o = (o or {}).get(name)
    return o


def _merged(before: Any, after: Any) -> Any:
    if not isinstance(before, dict) or not isinstance(after, dict):
        return copy.deepcopy(after)
    return before | {k: _merged(before.get(k), v) for k, v in after.items()}


def _missing(request: Request) -> Response:
    return _status(404, f"{request.path} not found")


def _status(code: int, message: str) -> Response:
    return as_json({"kind": "Status", "status": "Failure", "code": code, "message": message}, code)


def _discovery(path: str) -> Json | None:
    if path == "/version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        served = [{"groupVersion": v, "version": "v1"} for v in KINDS if "/" in v]
        groups = [
            {"name": v["groupVersion"].partition("/")[0], "versions": [v], "preferredVersion": v}
            for v in served
        ]
        return {"kind": "APIGroupList", "groups": groups}
    found = re.fullmatch(_VERSION, path)
    if found is None or found["version"] not in KINDS:
        return None
    verbs = ["get", "list", "create", "update", "patch", "delete"]
    resources = [
        {"name": plural, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": verbs}
        for plural, (kind, namespaced) in KINDS[found["version"]].items()
    ]
    return {"kind": "APIResourceList", "groupVersion": found["version"], "resources": resources}


@pytest.fixture
def api() -> Iterator[KubeApi]:
    held = KubeApi()
    held.start()
    yield held
    held.stop()


@pytest.fixture
def kube(api: KubeApi, tmp_path: Path) -> Kubernetes:
    return api.client(tmp_path)
