"""Was an engine's image read from the node's secondary boot disk? From what the kubelet and the snapshotter said.

A node without the disk, or with one that holds another image, says nothing that a person would see. A slow pull shows
it, but a fast one proves nothing by itself: image streaming, which nodes with such disks have too, also pulls in
seconds. The snapshotter's own count of layers is the proof, or a fast pull on a node whose labels say that it has the
disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from llm_release.core import bootdisk, nodeplace
from llm_release.core.coldstart import ColdStart
from llm_release.core.verdict import Verdict

_BACKED = re.compile(
    r"Image (?P<image>\S+) is backed by secondary boot disk caching by (?P<percent>\d+(?:\.\d+)?)%"
    r" \((?P<hits>\d+)/(?P<layers>\d+) layers\)"
)


@dataclass(frozen=True, slots=True)
class Backed:
    """How much of an image the snapshotter found on the disk."""

    image: str
    percent: float
    hits: int
    layers: int

    @property
    def whole(self) -> bool:
        return self.hits == self.layers > 0 and self.percent >= 99


def backed(line: str) -> Backed | None:
    """Reads GKE's words, which are not documented as stable; None for a line that is not that one.

    ``Image <ref> is backed by secondary boot disk caching by 100.0% (27/27 layers), by image streaming by 0.0%``
    """
    found = _BACKED.search(line)
    if found is None:
        return None
    return Backed(found["image"], float(found["percent"]), int(found["hits"]), int(found["layers"]))


def of_image(lines: Iterable[str], digest: str) -> Backed | None:
    """What was said last of the image with this digest (`sha256:...`).

    Args:
        lines: of one node, oldest first.
    """
    told = [found for line in lines if (found := backed(line)) and found.image.endswith(f"@{digest}")]
    return told[-1] if told else None


def has_disk(labels: Mapping[str, str], image: str) -> bool:
    """Whether a node's labels say that it has a disk with this disk image.

    GKE's own label, on nodes that it makes for the label or a class; or ours, on the nodes of our pools.
    """
    return bootdisk.NODE_LABEL + image in labels or labels.get(nodeplace.IMAGE) == image


def judge(
    start: ColdStart, told: Backed | None, *, labels: Mapping[str, str] | None, image: str, pull_s: float
) -> Verdict:
    """PASS: the disk was used. FAIL: it was not. INCONCLUSIVE: nothing proves either.

    Args:
        told: the snapshotter's word, where it could be read.
        labels: of the node; None when they are not told.
        image: name of the disk image that the node should have.
        pull_s: seconds that a pull may take which fetches a manifest and no layers.
    """
    said = [f"{told.hits} of {told.layers} layers were on the boot disk"] if told else []
    if told and not told.whole:
        return Verdict("FAIL", (f"image: {said[0]} ({told.percent:.1f} %), the others were pulled.",))
    if came := _came(start):
        said.append(came)
    if start.image_pull_s is not None and start.image_pull_s > pull_s:
        said.append(f"at most {pull_s:.1f} s wanted of a secondary boot disk")
        return Verdict("FAIL", (f"image: {', '.join(said)}.",))
    if told:
        return Verdict("PASS", (f"image: {', '.join(said)}.",))
    if came and labels is not None and has_disk(labels, image):
        return Verdict("PASS", (f"image: {came}, the node's labels say that it has disk {image}.",))
    return Verdict("INCONCLUSIVE", (_unproved(came, labels, image),))


def _came(start: ColdStart) -> str:
    """How the image came to the node by the kubelet's events, empty when they do not tell."""
    if start.image_pull_s is not None:
        return f"the pull took {start.image_pull_s:.1f} s"
    return "it was on the node already, from an earlier pod" if start.image_present else ""


def _unproved(came: str, labels: Mapping[str, str] | None, image: str) -> str:
    missing = ["the snapshotter's line about it"]
    if labels is None:
        missing.append("the node's labels")
    elif not has_disk(labels, image):
        missing.append(f"a label of the node that names disk {image}")
    if not came:
        return f"image: nobody told how it came to the node: missing are {' and '.join(missing)}."
    return f"image: {came}, which proves no secondary boot disk: missing are {' and '.join(missing)}."
