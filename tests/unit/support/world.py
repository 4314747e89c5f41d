"""A release's surroundings for a step on its own: the real clients, against servers of the test."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_release.clients.kubernetes import Kubernetes
from llm_release.clients.node_logs import NodeLogs
from llm_release.clients.store import Store
from llm_release.core.clusterspec import ClusterSpec
from llm_release.core.release import Release
from llm_release.core.spec import ServiceSpec
from llm_release.core.strict import encode
from llm_release.steps import manifests
from llm_release.steps.world import World

HOME = Path(__file__).resolve().parents[3]
DIGEST = "sha256:" + "d" * 64
HOLDER = "release__sim/one"
RELEASE = Release(
    id="0123456789",
    service="sim",
    cluster="demo",
    namespace="llm",
    repo="acme/sim",
    revision="v1",
    commit="c" * 40,
    listing="sha256:" + "a" * 64,
    weight_bytes=1 << 30,
    total_bytes=1 << 30,
    files=3,
    gated=False,
    license=None,
    image=f"registry.example/engine@{DIGEST}",
    image_tag="registry.example/engine:v1",
    toolbox=f"registry.example/toolbox@{DIGEST}",
    zone="us-central1-a",
    probe_file="model.safetensors",
)


@dataclass(slots=True)
class Connected:
    """What `World` connects with; a client that a test did not give is one that its step must not use."""

    kube: Kubernetes
    documents: Store
    logs: NodeLogs | None = None

    def kubernetes(self) -> Kubernetes:
        return self.kube

    def store(self) -> Store:
        return self.documents

    def node_logs(self) -> NodeLogs:
        assert self.logs is not None, "the step asked for the nodes' logs"
        return self.logs

    def disks(self) -> Any:
        raise AssertionError("the step asked for disks")

    machines = hub = registry = disks


@dataclass(slots=True)
class Surroundings:
    """Makes worlds of one run; `facts` is what XCom would hold, `log` what the task's log."""

    connect: Connected
    spec: ServiceSpec = field(default_factory=lambda: manifests.service(HOME, "sim"))
    cluster: ClusterSpec = field(
        default_factory=lambda: dataclasses.replace(manifests.cluster(HOME, "demo"), node_images=None)
    )
    facts: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.facts["open.resolve"] = {"release": encode(RELEASE)}
        self.facts["open.plan"] = {
            "nothing_to_do": False,
            "repairs": False,
            "live": "",
            "previous": "",
            "live_ready": 0,
            "text": "",
        }

    def gate(self, **fields: Any) -> None:
        """Changes the cold-start gate."""
        cold_start = dataclasses.replace(self.spec.gates.cold_start, **fields)
        gates = dataclasses.replace(self.spec.gates, cold_start=cold_start)
        self.spec = dataclasses.replace(self.spec, gates=gates)

    def world(self) -> World:
        return World(
            spec=self.spec,
            cluster=self.cluster,
            connect=self.connect,
            home=HOME,
            holder=HOLDER,
            facts=self.facts.get,
            log=self.log.append,
        )
