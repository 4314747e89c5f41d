"""Container v1 (GKE): clusters.get, clusters.list; node pools are in node_pools.py.

There is one cluster, whose endpoint and CA are those of the bench's API server. The answer goes through
google-cloud-container's own classes, so a field that GKE does not have fails here.
"""

from __future__ import annotations

import base64
import json

from google.cloud import container_v1

from testbench.fakes.google import node_pools
from testbench.fakes.google.calls import Call, Endpoint
from testbench.fakes.google.messages import Resource


def get(call: Call) -> Resource:
    node_pools.check_cluster(call, call["name"])
    return _document(call)


def list_(call: Call) -> Resource:
    settings = call.cloud.settings
    here = call["project"] == settings.project and call["location"] in ("-", settings.location)
    return {"clusters": [_document(call)]} if here else {}


def _document(call: Call) -> Resource:
    settings = call.cloud.settings
    endpoint = settings.api_server.removeprefix("https://").rstrip("/")
    name = f"projects/{settings.project}/locations/{settings.location}/clusters/{settings.cluster}"
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
        # Autopilot has both.
        autoscaling=container_v1.ClusterAutoscaling(
            enable_node_autoprovisioning=settings.auto_provisioning or settings.autopilot
        ),
        node_pool_defaults=container_v1.NodePoolDefaults(
            node_config_defaults=container_v1.NodeConfigDefaults(
                gcfs_config=container_v1.GcfsConfig(enabled=settings.image_streaming or settings.autopilot)
            )
        ),
        services_ipv4_cidr="10.96.0.0/16",
        self_link=f"{settings.url}/v1/{name}",
    )
    text = container_v1.Cluster.to_json(
        cluster, use_integers_for_enums=False, always_print_fields_with_no_presence=False
    )
    pools = node_pools.documents(call)
    return dict(json.loads(text)) | ({"nodePools": pools} if pools else {})


_PARENT = "projects/{project}/(?:locations|zones)/{location}"
ENDPOINTS = (
    Endpoint("GET", f"{_PARENT}/clusters", list_, "container.clusters.list"),
    Endpoint("GET", f"{_PARENT}/clusters/{{name}}", get, "container.clusters.get"),
    *node_pools.ENDPOINTS,
)
