"""What serves now. The Service in the cluster is the truth; the store's live.json is its copy."""

from __future__ import annotations

from llm_release.clients.kubernetes import Ref
from llm_release.core import names as n
from llm_release.core.plan import Live
from llm_release.steps.world import World


def live(world: World) -> Live:
    """Reads the Service and the Deployment that it selects."""
    spec = world.spec
    service = world.kube.get(Ref("v1", "Service", spec.service, spec.namespace))
    if service is None:
        return Live()
    annotations = service["metadata"].get("annotations") or {}
    selected = (service["spec"].get("selector") or {}).get(n.RELEASE, "")
    found = world.kube.deployment(spec.namespace, world.names_of(selected).deployment) if selected else None
    return Live(
        release=annotations.get(n.LIVE, ""),
        previous=annotations.get(n.PREVIOUS, ""),
        selected=selected,
        ready=found.ready if found else 0,
    )
