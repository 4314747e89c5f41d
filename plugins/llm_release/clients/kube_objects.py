"""Objects of the Kubernetes API as they are: read, applied, changed, deleted and listed, a timeout on every call.

Writes go through server-side apply with our own field manager and are never forced. What the objects mean is left
to `kubernetes`, which stands on this.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes.client import ApiClient
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError

from llm_release.clients.kube_errors import told
from llm_release.core import names
from llm_release.core.errors import Conflict, Permanent, Transient

TIMEOUT_S = 15
GONE_WITHIN_S = 30
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ref:
    """Which object: kind as in a manifest, namespace empty for cluster-scoped ones."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""

    @staticmethod
    def of(body: Json) -> Ref:
        meta = body["metadata"]
        return Ref(body["apiVersion"], body["kind"], meta["name"], meta.get("namespace", ""))

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did (or would do)."""

    ref: Ref
    change: str
    """create, change or keep."""
    uid: str
    version: str


class UnknownKind(Permanent):
    """The cluster does not know such objects at all."""


class Objects:
    """One cluster's objects. Every method raises Permanent, Transient, Conflict or Unavailable, nothing else."""

    def __init__(self, api: ApiClient, *, discovery_cache: str) -> None:
        self._api = api
        self._cache = discovery_cache
        self._discovered: DynamicClient | None = None

    def get(self, ref: Ref) -> dict[str, Any] | None:
        """The object as the API's JSON, None when there is none."""
        with told(f"read {ref}"):
            try:
                return self._resource(ref).get(**_where(ref), _request_timeout=TIMEOUT_S).to_dict()  # type: ignore[no-any-return]
            except NotFoundError:
                return None

    def apply(self, body: Json, *, dry_run: bool = False) -> Applied:
        """Server-side apply, not forced: another owner's field is a Conflict that names the owner.

        With `dry_run` the API server validates and admits as for real and stores nothing. An object that is
        being deleted would take the change and then vanish with it, so its end is waited for.
        """
        ref = Ref.of(body)
        before = self.get(ref) if dry_run else self._staying(ref)
        with told(f"apply {ref}"):
            done = self._dynamic.server_side_apply(
                self._resource(ref),
                body,
                **_where(ref),
                field_manager=names.FIELD_MANAGER,
                force_conflicts=False,
                _request_timeout=TIMEOUT_S,
                **({"dry_run": "All"} if dry_run else {}),
            ).to_dict()
        change = "create" if before is None else "keep" if _same(before, done) else "change"
        return Applied(ref, change, done["metadata"]["uid"], done["metadata"].get("resourceVersion", ""))

    def _staying(self, ref: Ref) -> dict[str, Any] | None:
        end = time.monotonic() + GONE_WITHIN_S
        while (found := self.get(ref)) is not None and found["metadata"].get("deletionTimestamp"):
            if time.monotonic() > end:
                raise Transient(
                    f"{ref} has been in deletion for over {GONE_WITHIN_S} s; its finalizers are"
                    f" {', '.join(found['metadata'].get('finalizers') or ()) or 'none'}.",
                    next_action="the task will try again; see what still uses it.",
                )
            time.sleep(0.3)
        return found

    def delete(self, ref: Ref) -> bool:
        """Asks for deletion, dependents first; False when it was not there. It may still end for a while."""
        with told(f"delete {ref}"):
            try:
                self._resource(ref).delete(
                    **_where(ref), body={"propagationPolicy": "Foreground"}, _request_timeout=TIMEOUT_S
                )
            except NotFoundError:
                return False
        return True

    def merge(self, ref: Ref, patch: Json) -> bool:
        """Changes these fields of an object that others own; False when it is not there."""
        with told(f"change {ref}"):
            try:
                self._resource(ref).patch(
                    **_where(ref),
                    body=patch,
                    content_type="application/merge-patch+json",
                    field_manager=names.FIELD_MANAGER,
                    _request_timeout=TIMEOUT_S,
                )
            except NotFoundError:
                return False
        return True

    def list(
        self, api_version: str, kind: str, namespace: str, selector: str = "", *, fields: str = ""
    ) -> list[dict[str, Any]]:
        with told(f"list {kind} in {namespace or 'the cluster'}"):
            found = self._dynamic_resource(api_version, kind).get(
                namespace=namespace or None,
                label_selector=selector or None,
                field_selector=fields or None,
                _request_timeout=TIMEOUT_S,
            )
            return [o.to_dict() for o in found.items]

    @property
    def _dynamic(self) -> DynamicClient:
        if self._discovered is None:
            with told("discover what the API server serves"):
                self._discovered = DynamicClient(self._api, cache_file=self._cache)
        return self._discovered

    def _resource(self, ref: Ref) -> Any:
        return self._dynamic_resource(ref.api_version, ref.kind)

    def _dynamic_resource(self, api_version: str, kind: str) -> Any:
        try:
            return self._dynamic.resources.get(api_version=api_version, kind=kind)
        except ResourceNotFoundError:
            raise UnknownKind(
                f"the cluster does not know {kind} ({api_version}).",
                next_action="check the cluster's version.",
            ) from None


def owned_by_us(body: Json | None, service: str) -> bool:
    labels = ((body or {}).get("metadata") or {}).get("labels") or {}
    return (
        labels.get(names.MANAGED_BY) == names.FIELD_MANAGER and labels.get(names.SERVICE, service) == service
    )


def refuse_foreign(ref: Ref, body: Json | None, service: str) -> None:
    """Raises Conflict when the object exists and is not ours."""
    if body is not None and not owned_by_us(body, service):
        managers = {m.get("manager", "?") for m in body["metadata"].get("managedFields") or ()}
        raise Conflict(
            f"{ref} exists and belongs to somebody else ({', '.join(sorted(managers)) or 'unknown'}).",
            next_action="rename or remove it; this release leaves it alone.",
        )


def _where(ref: Ref) -> dict[str, str]:
    return {"name": ref.name, **({"namespace": ref.namespace} if ref.namespace else {})}


_NOISE = ("resourceVersion", "managedFields", "generation")


def _same(before: Json, after: Json) -> bool:
    def bare(o: Json) -> dict[str, Any]:
        meta = {k: v for k, v in o["metadata"].items() if k not in _NOISE}
        return {**{k: v for k, v in o.items() if k != "status"}, "metadata": meta}

    return bare(before) == bare(after)
