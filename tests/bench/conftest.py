"""A prepared namespace on the running bench, and a service of its own for every test."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llm_release.clients.kube_objects import Ref
from llm_release.clients.kubernetes import Kubernetes
from llm_release.clients.operations import Operation
from llm_release.core import bootdisk
from llm_release.core.clusterspec import NodeImages
from llm_release.core.names import SERVICE
from llm_release.core.request import ReleaseRequest
from llm_release.hooks.cluster import ClusterHook
from llm_release.steps import manifests, platform
from llm_release.steps.image_work import Wanted
from testbench import config
from testbench.airflow import settings
from testbench.images import odd
from tests.bench.images import Work, surroundings
from tests.bench.runner import HOME, Run
from tests.bench.tools import until

NAMESPACE = "llm"
NODE_IMAGES = NodeImages(
    mode="autopilot", zone=config.ZONE, subnetwork="regions/us-central1/subnetworks/default"
)
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def connect(bench: object) -> ClusterHook:
    """Clients of the bench's cluster, made by the hook that Airflow uses, from the same connection."""
    os.environ.update(settings.connections())
    hook = ClusterHook(manifests.cluster(HOME, "demo"))
    platform.run(HOME, hook.cluster, kube=hook.kubernetes(), namespaces=[NAMESPACE])
    return hook


@pytest.fixture(scope="session")
def kube(connect: ClusterHook) -> Kubernetes:
    return connect.kubernetes()


@pytest.fixture
def service() -> str:
    """A name that no other test uses."""
    return f"t{os.getpid() % 1000}-{next(_numbers)}"


@pytest.fixture
def start(connect: ClusterHook, kube: Kubernetes, service: str) -> Iterator[Callable[..., Run]]:
    """Makes a run of this test's service: start("v1"), start("main", repo="acme/gated")."""
    yield functools.partial(_run, connect, service)
    remove(kube, service)


@pytest.fixture(scope="session")
def kept(connect: ClusterHook, kube: Kubernetes) -> Iterator[Kept]:
    """A service that lives on from test to test: a first release takes half a minute."""
    service = f"t{os.getpid() % 1000}-kept"
    yield Kept(connect, kube, service)
    remove(kube, service)


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """Each test says what is live before it begins; that is released only if it is not so already."""

    connect: ClusterHook
    kube: Kubernetes
    service: str

    def start(self, revision: str, *, holder: str) -> Run:
        return _run(self.connect, self.service, revision, holder=holder)

    def live(self, revision: str, *, after: str = "") -> Run:
        """`revision` serves with one pod, and `after` (if given) is the release before it, scaled to zero."""
        run = self.start(revision, holder=f"live-{revision}")
        ready = run.until("open.plan").nothing_to_do
        if not ready or (after and not self._kept(after)):
            if after:
                self.live(after)
            run = self.start(revision, holder=f"live-{revision}")
            run.everything()
        self.kube.scale(NAMESPACE, run.world().names.deployment, 1)
        return run

    def _kept(self, revision: str) -> bool:
        before = self.start(revision, holder=f"look-{revision}")
        before.until("open.resolve")
        found = self.kube.deployment(NAMESPACE, before.world().names.deployment)
        return found is not None and found.replicas == 0


def _run(
    connect: ClusterHook,
    service: str,
    revision: str,
    *,
    repo: str = "acme/sim",
    holder: str = "one",
    **changes: Any,
) -> Run:
    spec = manifests.service(HOME, "sim")
    spec = dataclasses.replace(
        spec, service=service, model=dataclasses.replace(spec.model, repo=repo), **changes
    )
    return Run(
        connect=connect,
        spec=spec,
        request=ReleaseRequest(revision=revision),
        holder=f"release__{service}/{holder}",
    )


@pytest.fixture
def run(start: Callable[..., Run]) -> Run:
    """A run that holds its lease, on a cluster that has secondary boot disks.

    The disk image of the light engine is left for the next test: it belongs to a digest, not to a release.
    """
    made = start("v1")
    made.node_images = NODE_IMAGES
    made.until("open.lock")
    return made


@pytest.fixture(scope="session")
def nasty(connect: ClusterHook) -> str:
    return odd.nasty()


@pytest.fixture
def work(connect: ClusterHook, nasty: str) -> Iterator[Work]:
    made = Work(surroundings(connect, "node_image/one"), Wanted((nasty,), NODE_IMAGES))
    yield made
    remove_image(connect, made.want.names)


def remove_image(connect: ClusterHook, names: bootdisk.Names) -> None:
    """A disk image, and whatever builds or verifies it."""
    machines, disks = connect.machines(), connect.disks()
    for name in (names.builder, names.verifier):
        finished(connect, machines.delete_machine(config.ZONE, name))
        finished(connect, disks.delete(config.ZONE, name))
    finished(connect, machines.delete_image(names.image))


def finished(connect: ClusterHook, operation: Operation | None) -> None:
    """Waits for a change in Compute; None is one that was not needed."""
    if operation is not None:
        look = connect.disks().operation
        until(lambda: look(operation.zone, operation.name).done)


@dataclasses.dataclass(frozen=True, slots=True)
class Faults:
    """Makes a fake misbehave: `faults(kind="stall", match="/cdn/")`, until `clear` or the end of the test."""

    url: str

    def __call__(self, **fault: Any) -> None:
        request = urllib.request.Request(
            self.url, json.dumps(fault).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).close()

    def clear(self) -> None:
        urllib.request.urlopen(urllib.request.Request(self.url, method="DELETE"), timeout=10).close()


@pytest.fixture
def google_fault() -> Iterator[Faults]:
    faults = Faults(f"{config.GOOGLE}/_bench/faults")
    yield faults
    faults.clear()


@pytest.fixture
def hub_fault() -> Iterator[Faults]:
    faults = Faults(f"{config.HUB}/_bench/faults")
    yield faults
    faults.clear()


def remove(kube: Kubernetes, service: str) -> None:
    """Every object that a test's service left; its disks stay, but for `remove_disks`."""
    mine = f"{SERVICE}={service}"
    namespaced = (
        ("apps/v1", "Deployment"),
        ("batch/v1", "Job"),
        ("v1", "Service"),
        ("v1", "ConfigMap"),
        ("v1", "PersistentVolumeClaim"),
    )
    for version, kind in namespaced:
        for found in kube.list(version, kind, NAMESPACE, mine):
            kube.delete(Ref(version, kind, found["metadata"]["name"], NAMESPACE))
    for found in kube.list("v1", "PersistentVolume", "", mine):
        kube.delete(Ref("v1", "PersistentVolume", found["metadata"]["name"]))
    kube.delete(Ref("coordination.k8s.io/v1", "Lease", f"llm-release-{service}", NAMESPACE))


def remove_disks(connect: ClusterHook, service: str) -> None:
    """The disks of a service whose objects were removed: with one that is sealed, a release has nothing to hydrate."""
    with urllib.request.urlopen(f"{config.GOOGLE}/_bench/resources", timeout=10) as answer:
        held: dict[str, Any] = json.load(answer)["resources"]
    mine = [
        r["name"]
        for key, r in held.items()
        if "/disks/" in key and r.get("labels", {}).get("llm-release-service") == service
    ]
    disks = connect.disks()

    def attached() -> bool:
        return any(found.users for name in mine if (found := disks.get(config.ZONE, name)) is not None)

    until(lambda: not attached())
    for name in mine:
        disks.delete(config.ZONE, name)
    until(lambda: not any(disks.get(config.ZONE, name) for name in mine))


def writes(since: float) -> list[dict[str, Any]]:
    """Changes that the fake Compute was asked for since a Unix time."""
    with urllib.request.urlopen(f"{config.GOOGLE}/_bench/writes?since={since}", timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)["writes"]
        return found
