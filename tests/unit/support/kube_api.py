"""A small API server for the real client: discovery, objects in memory, selectors, merge and apply.

It validates nothing: what the real one does with schemas, conflicts and rights is tested on the bench.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes.client import ApiClient, Configuration

from llm_release.clients.kubernetes import Kubernetes
from testbench.fakes.web import Request, Response, Server, as_json

Json = dict[str, Any]
KINDS: Mapping[str, Mapping[str, tuple[str, bool]]] = {
    "v1": {
        "pods": ("Pod", True),
        "services": ("Service", True),
        "nodes": ("Node", False),
        "configmaps": ("ConfigMap", True),
        "serviceaccounts": ("ServiceAccount", True),
        "namespaces": ("Namespace", False),
    },
    "apps/v1": {"deployments": ("Deployment", True)},
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
_PATH = re.compile(
    r"/(?:api|apis)/(?P<version>v1|[^/]+/v1)/(?:namespaces/(?P<namespace>[^/]+)/)?(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?"
)


@dataclass
class KubeApi:
    """`objects` by (plural, namespace, name); `writes` lists "METHOD plural/name" of every change."""

    folder: Path
    objects: dict[tuple[str, str, str], Json] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def start(self) -> None:
        self.server = Server(("127.0.0.1", 0), self)
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def client(self) -> Kubernetes:
        settings = Configuration(host=self.server.url)
        return Kubernetes(ApiClient(settings), discovery_cache=str(self.folder / "discovery.json"))

    def put(self, body: Json) -> Json:
        """Holds an object as if somebody else had made it."""
        plural, namespaced = next(
            (plural, namespaced)
            for plural, (kind, namespaced) in KINDS[body["apiVersion"]].items()
            if kind == body["kind"]
        )
        meta = body["metadata"]
        meta.setdefault("uid", f"uid-{next(self._versions)}")
        meta["resourceVersion"] = str(next(self._versions))
        self.objects[plural, meta.get("namespace", "") if namespaced else "", meta["name"]] = body
        return body

    def __call__(self, request: Request) -> Response:
        if answer := _discovery(request.path):
            return as_json(answer)
        found = _PATH.fullmatch(request.path)
        if found is None and (one := re.fullmatch(r"/api/v1/namespaces(?:/([^/]+))?", request.path)):
            return self._answer(request, "v1", "namespaces", "", one[1])
        if found is None:
            return _missing()
        return self._answer(
            request, found["version"], found["plural"], found["namespace"] or "", found["name"]
        )

    def _answer(
        self, request: Request, version: str, plural: str, namespace: str, name: str | None
    ) -> Response:
        kind = KINDS[version][plural][0]
        if name is None and request.method == "GET":
            items = [
                o for key, o in self.objects.items() if _listed(key, o, plural, namespace, request.query)
            ]
            return as_json({"apiVersion": version, "kind": f"{kind}List", "metadata": {}, "items": items})
        body = request.json() if request.method != "GET" else {}
        name = name or body["metadata"]["name"]
        key = (plural, namespace, name)
        if request.method in ("PATCH", "PUT", "POST"):
            return self._written(request, key, {"apiVersion": version, "kind": kind} | body)
        if key not in self.objects:
            return _missing()
        if request.method == "DELETE":
            self.writes.append(f"DELETE {plural}/{name}")
            return as_json(self.objects.pop(key))
        return as_json(self.objects[key])

    def _written(self, request: Request, key: tuple[str, str, str], body: Json) -> Response:
        merge = request.headers["content-type"] == "application/merge-patch+json"
        if merge and key not in self.objects:
            return _missing()
        before = self.objects.get(key, {})
        body["metadata"] = {"namespace": key[1], "name": key[2]} | body.get("metadata", {})
        after = _merged(before, body)
        if after == before:
            return as_json(before)
        if key[0] != "leases":
            self.writes.append(f"{request.method} {key[0]}/{key[2]}")
        return as_json(self.put(after))


def _listed(
    key: tuple[str, str, str], o: Json, plural: str, namespace: str, query: Mapping[str, str]
) -> bool:
    labels = o["metadata"].get("labels") or {}
    wanted = dict(w.split("=", 1) for w in query.get("labelSelector", "").split(",") if w)
    node = query.get("fieldSelector", "").removeprefix("spec.nodeName=")
    on_node = not node or o.get("spec", {}).get("nodeName") == node
    return key[0] == plural and namespace in ("", key[1]) and wanted.items() <= labels.items() and on_node


def _merged(before: Any, after: Any) -> Any:
    if not isinstance(before, dict) or not isinstance(after, dict):
        return copy.deepcopy(after)
    return before | {k: _merged(before.get(k), v) for k, v in after.items()}


def _missing() -> Response:
    return Response(
        status=404,
        headers={"Content-Type": "application/json"},
        body=json.dumps({"kind": "Status", "code": 404, "message": "not found"}).encode(),
    )


def _discovery(path: str) -> Json | None:
    if path == "/version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    groups = [v.partition("/")[0] for v in KINDS if "/" in v]
    if path == "/apis":
        version = [{"groupVersion": f"{g}/v1", "version": "v1"} for g in groups]
        return {
            "kind": "APIGroupList",
            "groups": [
                {"name": g, "versions": [v], "preferredVersion": v}
                for g, v in zip(groups, version, strict=True)
            ],
        }
    version_of = re.fullmatch(r"/api/(v1)|/apis/([^/]+/v1)", path)
    if version_of is None or (chosen := version_of[1] or version_of[2]) not in KINDS:
        return None
    verbs = ["get", "list", "create", "patch", "delete"]
    return {
        "kind": "APIResourceList",
        "groupVersion": chosen,
        "resources": [
            {"name": plural, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": verbs}
            for plural, (kind, namespaced) in KINDS[chosen].items()
        ],
    }
