"""What serves now. The Service in the cluster is the truth; the store's live.json is its copy."""

from __future__ import annotations

from llm_release.clients.kube_objects import Ref
from llm_release.core import names as n
from llm_release.core.errors import Conflict
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
    previous = annotations.get(n.PREVIOUS, "")
    found = world.kube.deployment(spec.namespace, world.names_of(selected).deployment) if selected else None
    before = world.kube.deployment(spec.namespace, world.names_of(previous).deployment) if previous else None
    return Live(
        release=annotations.get(n.LIVE, ""),
        previous=previous,
        selected=selected,
        ready=found.ready if found else 0,
        previous_replicas=before.replicas if before else 0,
        version=service["metadata"].get("resourceVersion", ""),
    )


def settled(world: World) -> Live:
    """
    Raises:
        Conflict: the Service selects another release than the one that it is recorded to serve: somebody
            changed it by hand, and only a person knows which of the two is meant.
    """
    found = live(world)
    if found.selected and found.release != found.selected:
        name, namespace = world.spec.service, world.spec.namespace
        raise Conflict(
            f"Service {namespace}/{name} selects release {found.selected}, and is recorded to serve"
            f" {found.release or 'none'}: its selector was changed by hand.",
            next_action=f"select {found.release or 'the right release'} again, or accept {found.selected} with"
            f" kubectl -n {namespace} annotate service {name} {n.LIVE}={found.selected} --overwrite.",
        )
    return found
