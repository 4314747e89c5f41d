"""Was an engine's image read from the node's secondary boot disk? From what the kubelet and the snapshotter said.

A node without the disk, or with one that holds another image, starts the same pod minutes later and says nothing
that a person would see: the pull's length is the proof, and the snapshotter's own count of layers where it is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

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


def judge(start: ColdStart, told: Backed | None, *, pull_s: float) -> Verdict:
    """PASS: the disk was used, or no pull was needed. FAIL: it was not. INCONCLUSIVE: nobody told.

    Args:
        told: the snapshotter's word, where it could be read.
        pull_s: seconds that a pull may take which fetches a manifest and no layers.
    """
    said = [f"{told.hits} of {told.layers} layers were on the boot disk"] if told else []
    if told and not told.whole:
        return Verdict("FAIL", (f"image: {said[0]} ({told.percent:.1f} %), the others were pulled.",))
    if start.image_pull_s is not None:
        said.append(f"the pull took {start.image_pull_s:.1f} s")
        if start.image_pull_s > pull_s:
            said.append(f"at most {pull_s:.1f} s wanted of a secondary boot disk")
            return Verdict("FAIL", (f"image: {', '.join(said)}.",))
    elif start.image_present:
        said.append("it was on the node already, from an earlier pod")
    if not said:
        return Verdict("INCONCLUSIVE", ("image: nobody told how it came to the node.",))
    return Verdict("PASS", (f"image: {', '.join(said)}.",))
