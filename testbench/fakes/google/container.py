"""Container v1 (GKE): clusters.get, clusters.list, one node pool; operations.list is empty.

There is one cluster, whose endpoint and CA are those of the bench's API server. The answer goes through
google-cloud-container's own classes, so a field that GKE does not have fails here. Node pools cannot be changed.
"""

from __future__ import annotations

import base64
import json

from google.cloud import container_v1

from testbench.fakes.google import errors
from testbench.fakes.google.calls import Call, Endpoint
from testbench.fakes.google.messages import Resource


def get(call: Call) -> Resource:
    settings = call.cloud.settings
    where = f"projects/{call['project']}/locations/{call['location']}/clusters/{call['name']}"
    known = (settings.project, settings.location, settings.cluster)
    if (call["project"], call["location"], call["name"]) != known:
        raise errors.ApiError(404, "notFound", f"Not found: {where}.")
    return _document(call)


def list_(call: Call) -> Resource:
    settings = call.cloud.settings
    here = call["project"] == settings.project and call["location"] in ("-", settings.location)
    return {"clusters": [_document(call)]} if here else {}


def operations(call: Call) -> Resource:
    return {}


def _document(call: Call) -> Resource:
    settings = call.cloud.settings
    endpoint = settings.api_server.removeprefix("https://").rstrip("/")
    name = f"projects/{settings.project}/locations/{settings.location}/clusters/{settings.cluster}"
    pool = container_v1.NodePool(
        name="default-pool",
        version=settings.cluster_version,
        status=container_v1.NodePool.Status.RUNNING,
        locations=[settings.zone],
        self_link=f"{settings.url}/v1/{name}/nodePools/default-pool",
    )
    cluster = container_v1.Cluster(
        name=settings.cluster,
        id="0" * 63 + "1",
        location=settings.location,
        locations=[settings.zone],
        endpoint=endpoint,
        status=container_v1.Cluster.Status.RUNNING,
        current_master_version=settings.cluster_version,
        current_node_version=settings.cluster_version,
        initial_cluster_version=settings.cluster_version,
        master_auth=container_v1.MasterAuth(
            cluster_ca_certificate=base64.b64encode(settings.ca.read_bytes()).decode()
        ),
        autopilot=container_v1.Autopilot(enabled=settings.autopilot),
        services_ipv4_cidr="10.96.0.0/16",
        node_pools=[] if settings.autopilot else [pool],
        self_link=f"{settings.url}/v1/{name}",
    )
    text = container_v1.Cluster.to_json(
        cluster, use_integers_for_enums=False, always_print_fields_with_no_presence=False
    )
    return dict(json.loads(text))


_PARENT = "projects/{project}/(?:locations|zones)/{location}"
ENDPOINTS = (
    Endpoint("GET", f"{_PARENT}/clusters", list_, "container.clusters.list"),
    Endpoint("GET", f"{_PARENT}/clusters/{{name}}", get, "container.clusters.get"),
    Endpoint("GET", f"{_PARENT}/operations", operations, "container.operations.list"),
)
