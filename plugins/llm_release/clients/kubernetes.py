"""The one way to the Kubernetes API: typed calls in, typed facts out, our errors, a timeout on every call.

It adds to the objects what they mean: how a roll-out stands, what pods say, and the few calls that are no objects.
It decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubernetes import client
from kubernetes.client import ApiClient, ApiException
from urllib3.exceptions import HTTPError

from llm_release.clients import kube_facts as facts
from llm_release.clients.kube_errors import told
from llm_release.clients.kube_objects import TIMEOUT_S, Objects, Ref
from llm_release.core import names
from llm_release.core.coldstart import Event, PodTimes
from llm_release.core.readiness import Deployment, Job, Pod

START_LOG_BYTES = 2 << 20
"""Engines say that they listen within some hundred lines."""


class Kubernetes(Objects):
    """One cluster. Every method raises Permanent, Transient, Conflict or Unavailable, nothing else."""

    def __init__(self, api: ApiClient, *, discovery_cache: str) -> None:
        super().__init__(api, discovery_cache=discovery_cache)
        self._core = client.CoreV1Api(api)

    # facts ----------------------------------------------------------------------------------------

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

    # what a pod says ------------------------------------------------------------------------------

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

    # small acts -----------------------------------------------------------------------------------

    def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        """Through the scale subresource, so that our apply never owns spec.replicas (an HPA may)."""
        with told(f"scale Deployment {namespace}/{deployment} to {replicas}"):
            client.AppsV1Api(self._api).patch_namespaced_deployment_scale(
                deployment, namespace, {"spec": {"replicas": replicas}}, _request_timeout=TIMEOUT_S
            )

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
