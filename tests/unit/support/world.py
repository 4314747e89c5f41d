"""A release's world for a step on its own: the real clients, against servers of the test."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from llm_release.clients.compute import Disks
from llm_release.clients.kubernetes import Kubernetes
from llm_release.clients.machines import Machines
from llm_release.clients.node_logs import NodeLogs
from llm_release.clients.node_pools import NodePools
from llm_release.clients.registry import Registry
from llm_release.clients.store import Store
from llm_release.core.clusterspec import ClusterSpec
from llm_release.core.spec import ServiceSpec
from llm_release.core.strict import encode
from llm_release.steps import manifests
from llm_release.steps.plan import Planned
from llm_release.steps.resolve import Resolved
from llm_release.steps.world import World
from tests.unit.fakes.google_apis import GoogleApis
from tests.unit.support.kube_api import KubeApi
from tests.unit.support.release import release

HOME = Path(__file__).resolve().parents[3]
HOLDER = "release__sim/one"


@dataclass(slots=True)
class Connected:
    """What `World` connects with; a server that a test did not give is one that its step must not ask."""

    kube: Kubernetes
    documents: Store
    google: GoogleApis | None = None
    logs: NodeLogs | None = None
    registry_host: str = ""

    def kubernetes(self) -> Kubernetes:
        return self.kube

    def store(self) -> Store:
        return self.documents

    def disks(self) -> Disks:
        return Disks(**self._google())

    def machines(self) -> Machines:
        return Machines(**self._google())

    def node_pools(self) -> NodePools:
        return NodePools(location="us-central1", cluster="demo", **self._google())

    def node_logs(self) -> NodeLogs:
        assert self.logs is not None, "the step asked for the nodes' logs"
        return self.logs

    def hub(self) -> NoReturn:
        raise AssertionError("the step asked the hub")

    def registry(self) -> Registry:
        assert self.registry_host, "the step asked a registry"
        return Registry(insecure=(self.registry_host,))

    def _google(self) -> dict[str, Any]:
        assert self.google is not None, "the step asked Google"
        return {"project": "demo", "credentials": self.google.plain, "endpoint": self.google.url}


def _opened() -> dict[str, Any]:
    """What the first steps left: a pinned release of a service that serves nothing yet."""
    plan = Planned(nothing_to_do=False, repairs=False, live="", previous="", live_ready=0, text="")
    return {Resolved.STEP: encode(Resolved(release())), Planned.STEP: encode(plan)}


@dataclass(slots=True)
class Run:
    """A run of the service sim, which makes worlds for its steps.

    Attributes:
        facts: what XCom would hold, by step.
        log: the lines of every task's log.
    """

    connect: Connected
    spec: ServiceSpec = field(default_factory=lambda: manifests.service(HOME, "sim"))
    cluster: ClusterSpec = field(
        default_factory=lambda: dataclasses.replace(manifests.cluster(HOME, "demo"), node_images=None)
    )
    facts: dict[str, Any] = field(default_factory=_opened)
    log: list[str] = field(default_factory=list)

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


def lease(api: KubeApi, service: str, holder: str, fence: int = 1) -> None:
    spec = {"holderIdentity": holder, "leaseTransitions": fence}
    api.put("coordination.k8s.io/v1", "Lease", f"llm-release-{service}", spec=spec)
