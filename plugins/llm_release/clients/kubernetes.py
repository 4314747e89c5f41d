"""The one way to the Kubernetes API: typed calls in, typed facts out, our errors, a timeout on every call.

Writes go through server-side apply with our own field manager and are never forced. It decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError
from urllib3.exceptions import HTTPError

from llm_release.clients import kube_facts as facts
from llm_release.clients.kube_errors import told
from llm_release.core import names
from llm_release.core.coldstart import Event, PodTimes
from llm_release.core.errors import Conflict, Permanent, Transient
from llm_release.core.readiness import Deployment, Job, Pod

TIMEOUT_S = 15
GONE_WITHIN_S = 30
START_LOG_BYTES = 2 << 20
"""Engines say that they listen within some hundred lines."""
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


class Kubernetes:
    """One cluster. Every method raises Permanent, Transient, Conflict or Unavailable, nothing else."""

    def __init__(self, api: ApiClient, *, discovery_cache: str) -> None:
        self._api = api
        self._core = client.CoreV1Api(api)
        self._batch = client.BatchV1Api(api)
        self._cache = discovery_cache
        self._discovered: DynamicClient | None = None

    # objects -----------------------------------------------------------------------------------

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

    # facts -------------------------------------------------------------------------------------

    def deployment(self, namespace: str, name: str) -> Deployment | None:
        found = self.get(Ref("apps/v1", "Deployment", name, namespace))
        return facts.deployment(found) if found else None

    def job(self, namespace: str, name: str) -> Job | None:
        found = self.get(Ref("batch/v1", "Job", name, namespace))
        return facts.job(found) if found else None

    def pods(self, namespace: str, selector: str) -> tuple[Pod, ...]:
        return tuple(facts.pod(o) for o in self.list("v1", "Pod", namespace, selector))

    def job_pods(self, namespace: str, job: str) -> tuple[Pod, ...]:
        found = self.list("v1", "Pod", namespace, f"batch.kubernetes.io/job-name={job}")
        found.sort(key=lambda o: o["metadata"]["creationTimestamp"])
        return tuple(facts.pod(o) for o in found)

    def endpoints(self, namespace: str, service: str) -> tuple[str, ...]:
        slices = self.list(
            "discovery.k8s.io/v1", "EndpointSlice", namespace, f"kubernetes.io/service-name={service}"
        )
        return facts.endpoint_pods(slices)

    def attachments(self, pv: str) -> tuple[str, ...]:
        """Nodes that have the volume attached, or are still detaching it."""
        found = self.list("storage.k8s.io/v1", "VolumeAttachment", "")
        return tuple(
            o["spec"]["nodeName"] for o in found if o["spec"]["source"].get("persistentVolumeName") == pv
        )

    def events(self, namespace: str, name: str) -> tuple[str, ...]:
        """`reason: message` of the events about one object, oldest first."""
        found = sorted(self._events(namespace, name), key=facts.event_last_seen)
        return tuple(f"{e.get('reason')}: {e.get('message')}" for e in found)

    def pod_times(self, namespace: str, pod: str, container: str) -> PodTimes | None:
        """When a pod and one of its containers came to what they are; None when there is no such pod."""
        found = self.get(Ref("v1", "Pod", pod, namespace))
        return facts.pod_times(found, container) if found else None

    def pod_events(self, namespace: str, pod: str) -> tuple[Event, ...]:
        """The events about a pod that are left (an hour's), each with the time of its first occurrence."""
        return tuple(facts.event(o) for o in self._events(namespace, pod))

    def start_log(self, namespace: str, pod: str, container: str) -> tuple[str, ...]:
        """How a container's log begins: its first `START_LOG_BYTES`, each line with its time (RFC 3339) before it.

        Empty when there is none: the pod is gone, or the container waits to be started. Other than in `pod_log`,
        a log that cannot be read now is an error, because who splits a cold start needs it and can try again.
        """
        with told(f"read the log of pod {namespace}/{pod}"):
            try:
                text = self._log(
                    namespace, pod, container=container, timestamps=True, limit_bytes=START_LOG_BYTES
                )
            except ApiException as e:
                if e.status in (400, 404):
                    return ()
                raise
        return tuple(text.splitlines())

    # small acts --------------------------------------------------------------------------------

    def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        """Through the scale subresource, so that our apply never owns spec.replicas (an HPA may)."""
        with told(f"scale Deployment {namespace}/{deployment} to {replicas}"):
            client.AppsV1Api(self._api).patch_namespaced_deployment_scale(
                deployment, namespace, {"spec": {"replicas": replicas}}, _request_timeout=TIMEOUT_S
            )

    def pod_log(
        self,
        namespace: str,
        pod: str,
        *,
        tail: int = 200,
        previous: bool = False,
    ) -> str:
        """The last lines of a pod's log (or of its container before the last restart); empty when there is none.

        A missing log is evidence lost, never a failed release (the node may be gone).
        """
        try:
            return self._log(namespace, pod, tail_lines=tail, previous=previous)
        except (ApiException, HTTPError):
            return ""

    def through_proxy(self, namespace: str, pod: str, port: int, path: str) -> str:
        """GET on a pod through the API server: a light look, no load (workers cannot reach pod addresses)."""
        with told(f"look at {path} of pod {namespace}/{pod}"):
            answer = self._api.call_api(
                f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}",
                "GET",
                header_params={"Accept": "*/*"},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=TIMEOUT_S,
            )
            return bytes(answer.data).decode("utf-8", "replace")

    def may(self, verb: str, group: str, resource: str, namespace: str, subresource: str = "") -> bool:
        """Asks the API server whether we may; nothing is tried."""
        attributes = client.V1ResourceAttributes(
            verb=verb,
            group=group,
            resource=resource,
            namespace=namespace or None,
            subresource=subresource or None,
        )
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        )
        with told(f"ask for the right to {verb} {resource}"):
            done = client.AuthorizationV1Api(self._api).create_self_subject_access_review(
                review, _request_timeout=TIMEOUT_S
            )
        return bool(done.status.allowed)

    def swap_lease(self, namespace: str, name: str, spec: Mapping[str, Any], version: str | None) -> str:
        """Writes a Lease only if it is still as read (`version`), or still absent (None). -> new version.

        Raises:
            Conflict: somebody was faster.
        """
        leases = client.CoordinationV1Api(self._api)
        body: dict[str, Any] = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "labels": {names.MANAGED_BY: names.FIELD_MANAGER}},
            "spec": dict(spec),
        }
        with told(f"write Lease {namespace}/{name}"):
            if version is None:
                made = leases.create_namespaced_lease(namespace, body, _request_timeout=TIMEOUT_S)
            else:
                body["metadata"]["resourceVersion"] = version
                made = leases.replace_namespaced_lease(name, namespace, body, _request_timeout=TIMEOUT_S)
        return str(made.metadata.resource_version)

    # -------------------------------------------------------------------------------------------

    def _events(self, namespace: str, name: str) -> tuple[dict[str, Any], ...]:
        with told(f"read events of {namespace}/{name}"):
            found = self._dynamic_resource("v1", "Event").get(
                namespace=namespace, field_selector=f"involvedObject.name={name}", _request_timeout=TIMEOUT_S
            )
            return tuple(o.to_dict() for o in found.items)

    def _log(self, namespace: str, pod: str, **which: Any) -> str:
        # Not preloaded: the client would return the text of a bytes literal.
        answer = self._core.read_namespaced_pod_log(
            pod, namespace, **which, _preload_content=False, _request_timeout=TIMEOUT_S
        )
        return bytes(answer.data).decode("utf-8", "replace")

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
