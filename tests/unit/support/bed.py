"""What the steps about nodes run on: a run with the fake of Google's APIs, by the cluster's way to nodes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from llm_release.core import bootdisk
from llm_release.core.clusterspec import NodeImages, NodePool
from llm_release.core.names import FIELD_MANAGER, MANAGED_BY
from llm_release.steps import evidence, manifests
from llm_release.steps.waiting import Look
from llm_release.steps.world import Wait, World
from tests.unit.fakes.google_apis import GoogleApis
from tests.unit.support.kube_api import KubeApi
from tests.unit.support.release import DIGEST
from tests.unit.support.world import Run, lease

NAMES = bootdisk.Names(DIGEST)
_MODES: dict[str, NodePool | None] = {
    "autopilot": None,
    "compute-class": None,
    "standard": NodePool(
        machine="g2-standard-8", max=2, service_account="nodes@demo.iam.gserviceaccount.com"
    ),
}


@dataclass(slots=True)
class Bed:
    """`world(mode)` is one of the run's, whose release is opened: its manifests are kept."""

    run: Run
    api: KubeApi
    google: GoogleApis

    def world(self, mode: str, **changed: Any) -> World:
        """A mode that is empty: a cluster without secondary boot disks."""
        images = NodeImages(
            mode=mode,  # type: ignore[arg-type]
            zone="us-central1-a",
            subnetwork="regions/us-central1/subnetworks/default",
            node_pool=changed.pop("pool", _MODES.get(mode)),
        )
        spec = dataclasses.replace(self.run.spec, **changed)
        cluster = dataclasses.replace(self.run.cluster, node_images=images if mode else None)
        world = dataclasses.replace(self.run, spec=spec, cluster=cluster).world()
        rendered = manifests.release_manifests(world.home, spec=spec, cluster=cluster, release=world.release)
        evidence.keep(world, "manifests.jsonl", manifests.to_lines(rendered))
        return world

    def until_done(self, step: Any, world: World) -> Any:
        """Runs a step as the operator does: again after each of its waits."""
        while isinstance(found := step(world), Wait):
            look = Look(found, self.run.connect)
            while (seen := look.once()).state == "waiting":
                pass
            assert seen.state == "done", seen.message
        return found

    # What is there --------------------------------------------------------------------------------

    def lease(self, service: str, holder: str) -> None:
        lease(self.api, service, holder)

    def deployment(self, name: str, selector: dict[str, str]) -> None:
        spec = {"replicas": 0, "template": {"spec": {"nodeSelector": selector}}}
        self.api.put(
            "apps/v1", "Deployment", name, metadata={"labels": {MANAGED_BY: FIELD_MANAGER}}, spec=spec
        )

    def node(self, name: str, labels: dict[str, str]) -> None:
        self.api.put("v1", "Node", name, metadata={"labels": labels}, spec={})

    def pod(self, name: str, node: str, **meta: Any) -> None:
        """Somebody's, in a namespace that is not ours."""
        self.api.put(
            *("v1", "Pod", name),
            metadata={"namespace": "other", **meta},
            spec={"nodeName": node},
            status={"phase": "Running"},
        )

    def allow(self, pattern: str) -> None:
        spec = {"allowedResourcePatterns": [pattern]}
        self.api.put("node.gke.io/v1", "GCPResourceAllowlist", "some", spec=spec)

    def disk_image(self) -> None:
        """The engine's, ready, with what it is made from left out."""
        assert self.google.cloud is not None
        with self.google.cloud.state.changing() as held:
            held.resources[f"projects/demo/global/images/{NAMES.image}"] = {"kind": "compute#image"}
