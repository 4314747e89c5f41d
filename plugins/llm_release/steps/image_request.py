"""A disk image that somebody asked for outside of any release: DAG `node_image`.

Its tasks do what the steps of a release with the same names do, for the images, the place and the size of the form.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from llm_release.core import bootdisk
from llm_release.core.errors import Permanent
from llm_release.core.request import ImageRequest
from llm_release.steps import image_build, image_verify, image_work
from llm_release.steps.image_work import Wanted
from llm_release.steps.node_image import NodeImage
from llm_release.steps.verify_image import VerifiedImage
from llm_release.steps.world import Skipped, Surroundings, Wait


@dataclass(frozen=True, slots=True)
class Resolved:
    """What was asked for, pinned to bytes."""

    STEP: ClassVar[str] = "resolve"
    images: tuple[str, ...]
    zone: str
    subnetwork: str
    size_gib: int
    """0: by the images' size in their registry."""
    image: str
    """Name of the disk image."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing of the run is left."""

    STEP: ClassVar[str] = "end"


def resolve(at: Surroundings, request: ImageRequest) -> Resolved:
    """
    Raises:
        Skipped: only old images are to go.
        Permanent: the cluster has no node_images; an image does not exist, may not be read, or is for other machines.
    """
    if not request.images:
        raise Skipped("no engine image was named: none is built.")
    spec = at.cluster.node_images
    if spec is None:
        raise Permanent(
            f"cluster {at.cluster.cluster} has no node_images.",
            next_action=f"add it to include/clusters/{at.cluster.cluster}.yaml (docs/gke.md).",
        )
    images = tuple(dict.fromkeys(at.registry.digest(image) for image in request.images))
    for image in images:
        layers = at.registry.layers(image)
        at.log(f"image={image} layers={len(layers.diff_ids)} bytes={layers.compressed_bytes}")
    name = bootdisk.Names.of(images).image
    return Resolved(
        images, request.zone or spec.zone, request.network or spec.subnetwork, request.size_gib or 0, name
    )


def build(at: Surroundings, request: ImageRequest) -> NodeImage | Wait:
    want = _wanted(at)
    found = image_build.build(at, want, _unfenced)
    return found if isinstance(found, Wait) else NodeImage.of(found, want)


def verify(at: Surroundings, request: ImageRequest) -> VerifiedImage | Wait:
    found = image_verify.verify(at, _wanted(at), at.of(NodeImage).id, _unfenced)
    return found if isinstance(found, Wait) else VerifiedImage(found.name, found.id)


def end(at: Surroundings, request: ImageRequest) -> Ended | Wait:
    """Whatever happened: no machine and no disk of this run stays."""
    if at.maybe(Resolved) is None:
        return Ended()
    want = _wanted(at)
    verified = at.maybe(VerifiedImage) is not None
    return image_work.end_for_good(at, want, verified=verified) or Ended()


def _wanted(at: Surroundings) -> Wanted:
    asked, spec = at.of(Resolved), at.cluster.node_images
    assert spec is not None, "resolve refuses a cluster without"
    spec = dataclasses.replace(spec, zone=asked.zone, subnetwork=asked.subnetwork)
    return Wanted(asked.images, spec, asked.size_gib, asked=True)


def _unfenced() -> None:
    """Nothing is served from an image that is not verified: there is nothing to be fenced off from."""


PARTS: Mapping[str, Callable[[Surroundings, ImageRequest], Any]] = {
    "resolve": resolve,
    "node_image": build,
    "verify_image": verify,
    "end": end,
}
"""By task id."""
