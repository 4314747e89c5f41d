"""Everything that can be known to fail before anything is made. Reads only; every failed check at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.compute import Disk
from llm_release.clients.kube_objects import Ref, refuse_foreign
from llm_release.core import volume
from llm_release.core.errors import Permanent, ReleaseError
from llm_release.core.names import Names
from llm_release.steps import preflight_images
from llm_release.steps.world import World

CSI_DRIVER = "pd.csi.storage.gke.io"

RIGHTS = (
    ("create", "apps", "deployments", ""),
    ("patch", "apps", "deployments", "scale"),
    ("create", "batch", "jobs", ""),
    ("patch", "", "services", ""),
    ("create", "", "persistentvolumeclaims", ""),
    ("create", "coordination.k8s.io", "leases", ""),
)

NODE_RIGHTS = {
    "autopilot": ("list", "node.gke.io", "gcpresourceallowlists"),
    "standard": ("patch", "", "nodes"),
    "compute-class": ("create", "cloud.google.com", "computeclasses"),
}
"""By the cluster's way to nodes with a secondary boot disk; `platform` grants more, this is the sign that it did."""


@dataclass(frozen=True, slots=True)
class Preflight:
    STEP: ClassVar[str] = "open.preflight"
    checks: tuple[str, ...]


def run(world: World) -> Preflight:
    """
    Raises:
        Permanent: with every failed check and its next action, one a line.
    """
    passed: list[str] = []
    failed: list[ReleaseError] = []
    for name, check in (*CHECKS, *(preflight_images.CHECKS if world.cluster.node_images else ())):
        before = len(failed)
        failed.extend(check(world))
        if len(failed) == before:
            passed.append(name)
            world.log(f"ok {name}")
    if failed:
        for e in failed:
            world.log(f"failed {e}")
        more = f" (and {len(failed) - 1} more, in the log)" if len(failed) > 1 else ""
        raise Permanent(f"{failed[0].cause}{more}", next_action=failed[0].next_action)
    return Preflight(tuple(passed))


def _namespace(world: World) -> Iterator[ReleaseError]:
    spec = world.spec
    if world.kube.get(Ref("v1", "Namespace", spec.namespace)) is None:
        yield _platform(world, f"namespace {spec.namespace} does not exist")
        return
    for account in ("llm-hydrator", "llm-server", "llm-gate"):
        if world.kube.get(Ref("v1", "ServiceAccount", account, spec.namespace)) is None:
            yield _platform(world, f"service account {spec.namespace}/{account} does not exist")


def _rights(world: World) -> Iterator[ReleaseError]:
    for verb, group, resource, sub in RIGHTS:
        if not world.kube.may(verb, group, resource, world.spec.namespace, sub):
            yield _platform(
                world,
                f"the connection may not {verb} {resource}{'/' + sub if sub else ''} in {world.spec.namespace}",
            )
    if not world.kube.may("create", "", "persistentvolumes", ""):
        yield _platform(world, "the connection may not create persistentvolumes")


def _node_rights(world: World) -> Iterator[ReleaseError]:
    if world.cluster.node_images is None:
        return
    verb, group, resource = NODE_RIGHTS[world.cluster.node_images.mode]
    if not world.kube.may(verb, group, resource, ""):
        yield _platform(world, f"the connection may not {verb} {resource}")


def _storage_class(world: World) -> Iterator[ReleaseError]:
    name = world.cluster.storage_class
    found = world.kube.get(Ref("storage.k8s.io/v1", "StorageClass", name))
    if found is None:
        yield _platform(world, f"StorageClass {name} does not exist")
        return
    if found.get("provisioner") != CSI_DRIVER:
        yield Permanent(
            f"StorageClass {name} is of {found.get('provisioner')}, not {CSI_DRIVER}.",
            next_action="name another storage_class in the cluster's file.",
        )
    if found.get("reclaimPolicy") != "Retain":
        yield Permanent(
            f"StorageClass {name} has reclaimPolicy {found.get('reclaimPolicy')}:"
            " deleting a claim would delete a disk that serves.",
            next_action=f"delete that class and run platform__{world.cluster.cluster}, which makes it with Retain.",
        )


def _disk(world: World) -> Iterator[ReleaseError]:
    if problem := volume.problem(world.release.total_bytes, world.spec.weights.throughput_mibps):
        yield Permanent(problem, next_action="correct weights.throughput_mibps in the service's file.")
    found = world.disks.get(world.release.zone, world.names.disk)
    if found is not None and (foreign := foreign_disk(found, world.names)):
        yield foreign


def _volumes(world: World) -> Iterator[ReleaseError]:
    for name in (world.names.pv, world.names.staging_pv):
        ref = Ref("v1", "PersistentVolume", name)
        try:
            refuse_foreign(ref, world.kube.get(ref), world.spec.service)
        except ReleaseError as e:
            yield e


def _service(world: World) -> Iterator[ReleaseError]:
    ref = Ref("v1", "Service", world.names.live_service, world.spec.namespace)
    try:
        refuse_foreign(ref, world.kube.get(ref), world.spec.service)
    except ReleaseError as e:
        yield e


def _chat_template(world: World) -> Iterator[ReleaseError]:
    """A model without a chat template that is asked by chat answers 400, or rambles (catalogue F53, F54)."""
    if world.release.gated:
        return  # its files are not for us; in the cluster, hydration and the engine's first answer tell
    repo, commit = world.release.repo, world.release.commit
    files = {f.path for f in world.hub.model(repo, commit).files}
    if "chat_template.jinja" in files or "tokenizer_config.json" not in files:
        return
    config = json.loads(world.hub.read_small(repo, commit, "tokenizer_config.json"))
    if not config.get("chat_template"):
        yield Permanent(
            f"{repo} at {commit[:12]} has no chat template.",
            next_action="serve the instruction-tuned variant (often named -it or -Instruct).",
        )


def foreign_disk(found: Disk, names: Names) -> Permanent | None:
    """A disk is the release's when it has every one of its labels."""
    if not names.disk_labels.items() - found.labels.items():
        return None
    owner = found.labels.get("managed-by", "nobody that labelled it")
    return Permanent(
        f"disk {found.name} exists and is not this release's (managed by {owner}).",
        next_action="delete or rename that disk; this release leaves it alone.",
    )


def _platform(world: World, problem: str) -> Permanent:
    return Permanent(f"{problem}.", next_action=f"trigger platform__{world.cluster.cluster} once.")


CHECKS: tuple[tuple[str, Callable[[World], Iterator[ReleaseError]]], ...] = (
    ("namespace and service accounts", _namespace),
    ("rights in the cluster", _rights),
    ("rights for nodes with boot disks", _node_rights),
    ("storage class keeps disks", _storage_class),
    ("disk size, throughput and name", _disk),
    ("volume names are free", _volumes),
    ("service is ours", _service),
    ("chat template", _chat_template),
)
