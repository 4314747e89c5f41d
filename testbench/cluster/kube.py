"""The few things that the bench itself asks of and tells its API server, with the admin's certificate."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from testbench import config


def call(
    method: str, path: str, body: Any = None, *, kind: str = "application/json"
) -> dict[str, Any] | None:
    """One request; None for 404.

    Raises:
        RuntimeError: the API server answered with another error.
    """
    context = ssl.create_default_context(cafile=str(config.PKI / "ca.crt"))
    context.load_cert_chain(config.PKI / "admin.crt", config.PKI / "admin.key")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(config.API + path, data, {"Content-Type": kind}, method=method)
    try:
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as e:
        if e.code == 404:
            return None
        raise RuntimeError(f"{method} {path}: {e.code} {e.read()[:300]!r}") from e


def apply(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Server-side apply of an object of the bench's own."""
    query = "?fieldManager=llm-release-bench&force=true"
    done = call("PATCH", path + query, body, kind="application/apply-patch+yaml")
    assert done is not None
    return done


def node_ready(name: str) -> bool:
    found = call("GET", f"/api/v1/nodes/{name}")
    conditions = (found or {}).get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def set_capacity(node: str, capacity: dict[str, str]) -> None:
    """Extended resources of a node: the scheduler counts them, and a kubelet's restart keeps them."""
    body = {"status": {"capacity": capacity}}
    call("PATCH", f"/api/v1/nodes/{node}/status", body, kind="application/merge-patch+json")


def label_node(node: str, labels: dict[str, str]) -> None:
    body = {"metadata": {"labels": labels}}
    call("PATCH", f"/api/v1/nodes/{node}", body, kind="application/merge-patch+json")


def csi_registered(node: str, driver: str) -> bool:
    found = call("GET", f"/apis/storage.k8s.io/v1/csinodes/{node}")
    return any(d["name"] == driver for d in ((found or {}).get("spec", {}).get("drivers") or []))


def csi_driver(name: str) -> None:
    body = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": {"name": name},
        "spec": {"attachRequired": True, "podInfoOnMount": False, "fsGroupPolicy": "File"},
    }
    apply(f"/apis/storage.k8s.io/v1/csidrivers/{name}", body)


def pipeline_identity() -> str:
    """A service account that may do everything: who Airflow is on the bench. -> its bearer, for 30 days."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench-system"}}
    apply("/api/v1/namespaces/bench-system", namespace)
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "airflow", "namespace": "bench-system"},
    }
    apply("/api/v1/namespaces/bench-system/serviceaccounts/airflow", account)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "bench-airflow"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "airflow", "namespace": "bench-system"}],
    }
    apply("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/bench-airflow", binding)
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 2592000},
    }
    done = call("POST", "/api/v1/namespaces/bench-system/serviceaccounts/airflow/token", request)
    assert done is not None
    return str(done["status"]["token"])
