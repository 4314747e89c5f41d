"""Steps against a fake of Google's APIs, a small API server and fake-gcs-server, all asked by the real clients."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_release.clients.compute import Disks
from llm_release.clients.kubernetes import Kubernetes
from llm_release.clients.machines import Machines
from llm_release.clients.node_pools import NodePools
from llm_release.clients.registry import Registry
from llm_release.clients.store import Store, connect
from llm_release.core import bootdisk
from llm_release.core.names import FIELD_MANAGER, MANAGED_BY
from llm_release.core.spec import NodeImages, NodePool
from llm_release.core.strict import encode
from llm_release.steps import evidence, manifests
from llm_release.steps.resolve import Resolved
from llm_release.steps.verify_image import VerifiedImage
from llm_release.steps.waiting import Look
from llm_release.steps.world import Wait, World
from tests.unit.fakes.google_apis import GoogleApis
from tests.unit.support.gcs import gcs
from tests.unit.support.kube_api import KubeApi
from tests.unit.support.release import DIGEST, release

__all__ = ["gcs"]

HOME = Path(__file__).resolve().parents[3]
HOLDER = "release__sim/one"
NAMES = bootdisk.Names(DIGEST)
_MODES: dict[str, NodePool | None] = {
    "autopilot": None,
    "compute-class": None,
    "standard": NodePool(
        machine="g2-standard-8", max=2, service_account="nodes@demo.iam.gserviceaccount.com"
    ),
}
_prefixes = itertools.count(1)


@dataclasses.dataclass
class Bed:
    """What a step runs on; `world(mode)` is a run of the service sim that holds its lease."""

    google: GoogleApis
    kube: KubeApi
    store_url: str
    log: list[str] = dataclasses.field(default_factory=list)
    prefix: str = dataclasses.field(default_factory=lambda: f"steps-{next(_prefixes)}")
    registry_host: str = "127.0.0.1:1"

    def kubernetes(self) -> Kubernetes:
        return self.kube.client()

    def node_pools(self) -> NodePools:
        return NodePools(
            project="demo",
            location="us-central1",
            cluster="demo",
            credentials=self.google.plain,
            endpoint=self.google.url,
        )

    def disks(self) -> Disks:
        return Disks(project="demo", credentials=self.google.plain, endpoint=self.google.url)

    def machines(self) -> Machines:
        return Machines(project="demo", credentials=self.google.plain, endpoint=self.google.url)

    def registry(self) -> Registry:
        return Registry(insecure=(self.registry_host,))

    def store(self) -> Store:
        return Store("llm-releases", self.prefix, connect(self.store_url, project="demo"))

    def world(self, mode: str, **changed: Any) -> World:
        """A mode that is empty: a cluster without secondary boot disks."""
        images = NodeImages(
            mode=mode,  # type: ignore[arg-type]
            zone="us-central1-a",
            subnetwork="regions/us-central1/subnetworks/default",
            node_pool=changed.pop("pool", _MODES.get(mode)),
        )
        spec = manifests.service(HOME, "sim")
        cluster = dataclasses.replace(manifests.cluster(HOME, "demo"), node_images=images if mode else None)
        facts = {
            Resolved.STEP: encode(Resolved(release())),
            VerifiedImage.STEP: encode(VerifiedImage(NAMES.image, "1")),
        }
        world = World(
            spec=dataclasses.replace(spec, **changed),
            cluster=cluster,
            connect=self,  # type: ignore[arg-type]
            home=HOME,
            holder=HOLDER,
            facts=facts.get,
            log=self.log.append,
        )
        rendered = manifests.release_manifests(HOME, spec=world.spec, cluster=cluster, release=world.release)
        evidence.keep(world, "manifests.jsonl", manifests.to_lines(rendered))
        return world

    def until_done(self, step: Any, world: World) -> Any:
        """Runs a step as the operator does: again after each of its waits."""
        while isinstance(found := step(world), Wait):
            look = Look(found, self)  # type: ignore[arg-type]
            while (seen := look.once()).state == "waiting":
                pass
            assert seen.state == "done", seen.message
        return found

    # What is there --------------------------------------------------------------------------------

    def lease(self, service: str, holder: str) -> None:
        meta = {"name": f"llm-release-{service}", "namespace": "llm"}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}
        self.kube.put({**body, "spec": {"holderIdentity": holder, "leaseTransitions": 1}})

    def deployment(self, name: str, selector: dict[str, str]) -> None:
        meta = {"name": name, "namespace": "llm", "labels": {MANAGED_BY: FIELD_MANAGER}}
        spec = {"replicas": 0, "template": {"spec": {"nodeSelector": selector}}}
        self.kube.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})

    def node(self, name: str, labels: dict[str, str]) -> None:
        meta = {"name": name, "labels": labels}
        self.kube.put({"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}})

    def pod(self, name: str, node: str, **meta: Any) -> None:
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "other", **meta}}
        self.kube.put({**body, "spec": {"nodeName": node}, "status": {"phase": "Running"}})

    def allow(self, pattern: str) -> None:
        body = {"apiVersion": "node.gke.io/v1", "kind": "GCPResourceAllowlist", "metadata": {"name": "some"}}
        self.kube.put({**body, "spec": {"allowedResourcePatterns": [pattern]}})

    def disk_image(self) -> None:
        """The engine's, ready, with what it is made from left out."""
        assert self.google.cloud is not None
        with self.google.cloud.state.changing() as held:
            held.resources[f"projects/demo/global/images/{NAMES.image}"] = {"kind": "compute#image"}


@pytest.fixture
def bed(tmp_path: Path, gcs: str) -> Iterator[Bed]:
    google, kube = GoogleApis(tmp_path), KubeApi(tmp_path)
    google.start()
    kube.start()
    made = Bed(google, kube, gcs)
    kube.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm"}})
    made.lease("sim", HOLDER)
    made.disk_image()
    yield made
    kube.stop()
    google.stop()
