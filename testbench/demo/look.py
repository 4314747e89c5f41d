"""What is really there, asked of the cluster, of Compute and of the store, and not of the pipeline.

Reads only. Objects of other people's making become small facts here.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config

_SERVICE = "llm-release/service"
_RELEASE = "llm-release/release"
_TIMEOUT_S = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A live Service: where it is, and which release it selects."""

    host: str
    port: int
    release: str
    live: str
    """The release that its annotation names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A PersistentVolume and the claim on it."""

    access_modes: tuple[str, ...]
    read_only: bool
    reclaim: str
    phase: str
    claim: str
    handle: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk as Compute knows it; `id` is Compute's number."""

    id: str
    access_mode: str


class Cluster:
    """The bench's cluster, seen with the administrator's kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._api = config.new_client_from_config(config_file=str(kubeconfig))
        self._core = client.CoreV1Api(self._api)
        self._apps = client.AppsV1Api(self._api)

    def served(self, namespace: str, name: str) -> Served | None:
        """The Service, or None when there is none."""
        try:
            found = self._core.read_namespaced_service(name, namespace, _request_timeout=_TIMEOUT_S)
        except client.ApiException as e:
            if e.status == 404:
                return None
            raise
        annotations = found.metadata.annotations or {}
        return Served(
            host=found.spec.cluster_ip,
            port=found.spec.ports[0].port,
            release=(found.spec.selector or {}).get(_RELEASE, ""),
            live=annotations.get("llm-release/live", ""),
        )

    def pods(self, namespace: str, service: str, release: str) -> tuple[str, ...]:
        """Names of the serving pods of a release that still exist."""
        selector = f"{_SERVICE}={service},{_RELEASE}={release},llm-release/role=server"
        found = self._core.list_namespaced_pod(
            namespace, label_selector=selector, _request_timeout=_TIMEOUT_S
        )
        return tuple(p.metadata.name for p in found.items)

    def replicas(self, namespace: str, deployment: str) -> tuple[int, int] | None:
        """(wanted, ready) of a Deployment, or None when there is none."""
        try:
            found = self._apps.read_namespaced_deployment(deployment, namespace, _request_timeout=_TIMEOUT_S)
        except client.ApiException as e:
            if e.status == 404:
                return None
            raise
        return found.spec.replicas or 0, found.status.ready_replicas or 0

    def volume(self, name: str) -> Volume:
        found = self._core.read_persistent_volume(name, _request_timeout=_TIMEOUT_S)
        return Volume(
            access_modes=tuple(found.spec.access_modes),
            read_only=bool(found.spec.csi and found.spec.csi.read_only),
            reclaim=found.spec.persistent_volume_reclaim_policy,
            phase=found.status.phase,
            claim=found.spec.claim_ref.name if found.spec.claim_ref else "",
            handle=found.spec.csi.volume_handle if found.spec.csi else "",
        )

    def reclaim_policies(self) -> dict[str, str]:
        """StorageClasses with their reclaim policy."""
        found = client.StorageV1Api(self._api).list_storage_class(_request_timeout=_TIMEOUT_S)
        return {s.metadata.name: s.reclaim_policy for s in found.items}

    def service_accounts(self, namespace: str) -> frozenset[str]:
        found = self._core.list_namespaced_service_account(namespace, _request_timeout=_TIMEOUT_S)
        return frozenset(a.metadata.name for a in found.items)

    def role_bindings(self, namespace: str) -> frozenset[str]:
        api = client.RbacAuthorizationV1Api(self._api)
        found = api.list_namespaced_role_binding(namespace, _request_timeout=_TIMEOUT_S)
        return frozenset(b.metadata.name for b in found.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Compute's REST API, with the bearer that the bench hands out."""

    endpoint: str
    project: str
    token: Path

    def disk(self, zone: str, name: str) -> Disk | None:
        """The disk, or None when there is none."""
        found = self._asked(f"zones/{zone}/disks/{urllib.parse.quote(name)}")
        return None if found is None else Disk(id=str(found["id"]), access_mode=str(found.get("accessMode")))

    def image(self, name: str) -> Mapping[str, Any] | None:
        """The disk image as Compute shows it, or None when there is none."""
        found: Mapping[str, Any] | None = self._asked(f"global/images/{urllib.parse.quote(name)}")
        return found

    def names(self, zone: str, kind: str) -> tuple[str, ...]:
        """Of all instances, or all disks, in the zone."""
        found = self._asked(f"zones/{zone}/{kind}") or {}
        return tuple(item["name"] for item in found.get("items") or ())

    def _asked(self, path: str) -> Any:
        headers = {"authorization": f"Bearer {self.token.read_text().strip()}"}
        return _get(f"{self.endpoint}/compute/v1/projects/{self.project}/{path}", headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The release store's objects, over the JSON API of Cloud Storage."""

    endpoint: str
    bucket: str

    def generations(self) -> dict[str, str]:
        """Every object with its generation: two equal answers mean that nothing was written between them."""
        found: dict[str, str] = {}
        token = ""
        while True:
            query = f"?pageToken={urllib.parse.quote(token)}" if token else ""
            page = _get(f"{self.endpoint}/storage/v1/b/{self.bucket}/o{query}", {}) or {}
            found |= {item["name"]: str(item["generation"]) for item in page.get("items") or ()}
            token = page.get("nextPageToken") or ""
            if not token:
                return found

    def document(self, uri: str) -> Any:
        """A JSON object by its gs:// address, or None when there is none."""
        return _get(self.link(uri), {})

    def link(self, uri: str) -> str:
        """Address under which a person's browser gets the object."""
        name = uri.removeprefix(f"gs://{self.bucket}/")
        return f"{self.endpoint}/storage/v1/b/{self.bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media"


def _get(url: str, headers: Mapping[str, str]) -> Any:
    """Parsed JSON, or None for 404."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=dict(headers)), timeout=_TIMEOUT_S
        ) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as e:
        if e.code == 404:
            return None
        raise
