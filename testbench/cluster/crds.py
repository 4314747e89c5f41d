"""The kinds that GKE adds to a cluster, with the fields that a release uses: a typo is refused here too.

Both are cluster scoped. Sources: the pages "Use secondary boot disks" and "ComputeClass" (CRD reference) of GKE.
"""

from __future__ import annotations

from typing import Any

from testbench.cluster import kube

Json = dict[str, Any]
_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_TEXT: Json = {"type": "string"}
_FLAG: Json = {"type": "boolean"}
_COUNT: Json = {"type": "integer"}


def install() -> None:
    kube.apply(*_kind("node.gke.io", "GCPResourceAllowlist", _allowlist()))
    kube.apply(*_kind("cloud.google.com", "ComputeClass", _compute_class(), plural="computeclasses"))


def _allowlist() -> Json:
    return _object(allowedResourcePatterns=_list(_TEXT))


def _compute_class() -> Json:
    disk = _object(diskImageName=_TEXT, project=_TEXT, mode={**_TEXT, "enum": ["CONTAINER_IMAGE_CACHE"]})
    priority = _object(
        gpu=_object(type=_TEXT, count=_COUNT, driverVersion=_TEXT),
        spot=_FLAG,
        machineFamily=_TEXT,
        machineType=_TEXT,
        storage=_object(
            bootDiskSize=_COUNT, bootDiskType=_TEXT, localSSDCount=_COUNT, secondaryBootDisks=_list(disk)
        ),
    )
    return _object(
        nodePoolAutoCreation=_object(enabled=_FLAG),
        nodePoolConfig=_object(imageStreaming=_object(enabled=_FLAG), serviceAccount=_TEXT),
        priorities=_list(priority),
        whenUnsatisfiable={**_TEXT, "enum": ["DoNotScaleUp", "ScaleUpAnyway"]},
    )


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _kind(group: str, kind: str, spec: Json, *, plural: str = "") -> tuple[str, Json]:
    """-> (path, body) of the definition."""
    plural = plural or f"{kind.lower()}s"
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _object(spec=spec)},
    }
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    name = f"{plural}.{group}"
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {"group": group, "scope": "Cluster", "names": names, "versions": [version]},
    }
    return f"{_PATH}/{name}", body
