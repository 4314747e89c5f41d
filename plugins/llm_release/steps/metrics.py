"""A light look at the engines' own metrics, through the API server: no load, no address of a pod is needed."""

from __future__ import annotations

import re

from llm_release.core import names as n
from llm_release.core.errors import ReleaseError
from llm_release.steps import deploy
from llm_release.steps.world import World

_SUCCESS = re.compile(r"^vllm:request_success_total\{.*?\}\s+([0-9.e+]+)", re.M)


def finished(world: World, release: str) -> int | None:
    """Requests finished by a release's pods, from their own metrics; None when no pod told."""
    total: float | None = None
    for pod in world.kube.pods(world.spec.namespace, deploy.server_selector(world, release)):
        try:
            text = world.kube.through_proxy(world.spec.namespace, pod.name, n.PORT, "/metrics")
        except ReleaseError:
            continue
        total = (total or 0.0) + sum(float(x) for x in _SUCCESS.findall(text))
    return None if total is None else int(total)
