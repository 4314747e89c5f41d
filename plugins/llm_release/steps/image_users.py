"""What may ask for a disk image in one cluster: its workloads, ComputeClasses and node pools, and its releases.

Reads only. What cannot be read is an error and never "nobody": an image must not go because a record is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from llm_release.clients import kube_nodes
from llm_release.clients.kube_objects import Ref, UnknownKind
from llm_release.core import imagesweep, nodeplace
from llm_release.core import names as n
from llm_release.core.bootdisk import Names
from llm_release.core.errors import Permanent
from llm_release.core.imagesweep import Use
from llm_release.steps import lock, manifests
from llm_release.steps.world import Surroundings


def releasing(at: Surroundings) -> str:
    """A service of the cluster that is being released, and by whom; empty for none.

    Services are those of include/services, and those that serve in the same namespaces though their file is gone.
    """
    for namespace, services in _services(at).items():
        for service in services:
            if holder := lock.holder(at, service, namespace):
                return f"{service} is being released by {holder}"
    return ""


def users(at: Surroundings) -> Iterator[Use]:
    """
    Raises:
        Permanent: a release's record is missing or cannot be read, or the cluster may not be asked.
        Transient, Unavailable: ask again later.
    """
    for namespace, services in _services(at).items():
        # not ours alone: somebody else's in the same namespace may use our image, and is seen for free
        for asker in kube_nodes.askers(at.kube, namespace, pods=True):
            for image in imagesweep.in_pod_spec(asker.spec):
                yield Use(image, asker.name)
        for service, releases in services.items():
            for kind, release in releases.items():
                by = f"the record of {kind} release {release} of {service}"
                yield Use(_recorded(at, service, namespace, release), by)
    yield from _classes_and_pools(at)


def _classes_and_pools(at: Surroundings) -> Iterator[Use]:
    try:
        classes = at.kube.list(*nodeplace.COMPUTE_CLASS, "")
    except UnknownKind:  # an older GKE, where nothing can name an image that way
        classes = []
    for found in classes:
        for image in imagesweep.in_compute_class(found.get("spec")):
            yield Use(image, f"ComputeClass {found['metadata']['name']}")
    for pool in at.node_pools.list():
        for path in (*pool.disk_images, *pool.data_images):
            yield Use(path.rpartition("/")[2], f"node pool {pool.name}")


def _services(at: Surroundings) -> dict[str, dict[str, dict[str, str]]]:
    """Namespace -> service -> its releases that can serve: {"live": id, "previous": id}, each where there is one."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for spec in manifests.services_on(at.home, at.cluster.cluster):
        found.setdefault(spec.namespace, {})[spec.service] = {}
    for namespace in sorted(found):
        if at.kube.get(Ref("v1", "Namespace", namespace)) is None:
            del found[namespace]
            continue
        for body in at.kube.list("v1", "Service", namespace):
            if (releases := _releases(body)) is not None:
                found[namespace][body["metadata"]["name"]] = releases
    return found


def _releases(service: dict[str, Any]) -> dict[str, str] | None:
    """None when a Service is none that releases are switched by."""
    annotations = service["metadata"].get("annotations") or {}
    if n.LIVE not in annotations and n.PREVIOUS not in annotations:
        return None
    selected = (service.get("spec", {}).get("selector") or {}).get(n.RELEASE, "")
    by = {
        "the live": annotations.get(n.LIVE, ""),
        "the previous": annotations.get(n.PREVIOUS, ""),
        "the selected": "" if selected == annotations.get(n.LIVE) else selected,
    }
    return {kind: release for kind, release in by.items() if release}


def _recorded(at: Surroundings, service: str, namespace: str, release: str) -> str:
    """Name of the disk image for the engine of a release, as its record has it."""
    path = f"{n.Names(service, namespace, release).folder()}/record.json"
    found = at.store.read_text(path)
    if found is None:
        raise _unreadable(at, path, "is missing")
    try:
        engine = str(json.loads(found[0])["release"]["image"])
    except (ValueError, KeyError, TypeError) as e:
        raise _unreadable(at, path, f"cannot be read ({type(e).__name__})") from e
    if "@sha256:" not in engine:
        raise _unreadable(at, path, f"names no engine image by digest but {engine!r}")
    return Names.of([engine]).image


def _unreadable(at: Surroundings, path: str, problem: str) -> Permanent:
    return Permanent(
        f"{at.store.uri(path)}, the record of a release that can serve, {problem}.",
        next_action="put the record back, or release that service once more.",
    )
