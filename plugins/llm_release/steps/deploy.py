"""Rolls the candidate out beside the live release: Deployment, preview Service, and the wait for its pods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.kube_objects import Ref, refuse_foreign
from llm_release.core import readiness
from llm_release.core.errors import Permanent
from llm_release.core.readiness import Pod
from llm_release.steps import evidence, lock, observe
from llm_release.steps.world import Wait, World

LOG_LINES = 20


@dataclass(frozen=True, slots=True)
class Deployed:
    STEP: ClassVar[str] = "roll_out.deploy"
    deployment: str
    pod_hash: str
    preview: str
    """Address of the preview Service: host:port, as pods reach it."""
    pods: tuple[str, ...]


def run(world: World) -> Deployed | Wait:
    serves = observe.live(world).serves(world.release.id)
    for file in ("prompts", "preview-service", "deployment"):
        body = evidence.manifest(world, file)
        if serves and file == "deployment" and world.kube.get(Ref.of(body)):
            world.log("the release serves: its Deployment is left as it is")
            continue
        refuse_foreign(Ref.of(body), world.kube.get(Ref.of(body)), world.spec.service)
        # Asked each time: this task may have been told to die, and its run closed, since the last one.
        lock.hold(world)
        world.kube.apply(body)
    if left := scaled(world, world.spec.scaling.min, down=not serves):
        return left
    pods = tuple(
        p for p in world.kube.pods(world.spec.namespace, server_selector(world)) if not p.terminating
    )
    service = world.kube.get(Ref("v1", "Service", world.names.preview, world.spec.namespace))
    assert service is not None
    facts = Deployed(
        world.names.deployment,
        pods[0].label("pod-template-hash") if pods else "",
        f"{service['spec']['clusterIP']}:8000",
        tuple(p.name for p in pods),
    )
    world.log(f"deployment={facts.deployment} pods={','.join(facts.pods)} preview={facts.preview}")
    return facts


def scaled(world: World, replicas: int, *, down: bool = True) -> Wait | None:
    """Scales the candidate; -> what to wait for, None when that many pods are ready.

    Args:
        down: also to fewer pods than there are.

    Raises:
        Permanent: it will never be ready, and why.
    """
    who, namespace = world.names, world.spec.namespace
    found = world.kube.deployment(namespace, who.deployment)
    assert found is not None
    replicas = replicas if down else max(replicas, found.replicas)
    if found.replicas != replicas:
        world.kube.scale(namespace, who.deployment, replicas)
        world.log(f"scaling {who.deployment} from {found.replicas} to {replicas}")
        return _wait(world, replicas)
    pods = tuple(p for p in world.kube.pods(namespace, server_selector(world)) if not p.terminating)
    now = readiness.rollout(found, pods, unschedulable_for=0, patience=0)
    if now.state == "failed":
        _show_log(world, pods)
        raise Permanent(now.message, next_action=now.next_action)
    return _wait(world, replicas) if now.state == "waiting" else None


def server_selector(world: World, release: str | None = None) -> str:
    chosen = release or world.release.id
    return f"llm-release/service={world.spec.service},llm-release/release={chosen},llm-release/role=server"


def _show_log(world: World, pods: tuple[Pod, ...]) -> None:
    """The engine's own last words, where the person who reads the failure looks first."""
    for pod in pods[:1]:
        text = world.kube.pod_log(world.spec.namespace, pod.name, tail=LOG_LINES)
        for line in (
            text or world.kube.pod_log(world.spec.namespace, pod.name, tail=LOG_LINES, previous=True)
        ).splitlines():
            world.log(f"{pod.name}: {line}")


def _wait(world: World, replicas: int) -> Wait:
    return Wait(
        "deployment",
        world.names.deployment,
        world.spec.rollout.ready_within,
        f"{replicas} ready pods of {world.names.deployment}",
        world.spec.namespace,
        patience=world.spec.rollout.node_within,
    )
