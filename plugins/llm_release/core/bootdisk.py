"""Secondary boot disks: what one is called, how big it must be, which layers it must hold, how its build ended.

A disk image belongs to an engine image's digest, not to a service or a release: two services with one engine share it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llm_release.core.names import FIELD_MANAGER

GIB = 1 << 30
MIN_GIB = 10
UNPACKED = 2.6
"""Bytes on the disk for one compressed byte. vLLM's CUDA images unpack to 2.2-2.5 times; a build that finds the disk
too small is tried once more with twice as much."""
HEADROOM = 1.1
NAME_LIMIT = 39
"""GKE makes `gke-secondary-boot-disk-<name>` the name of a node label: 63 less 24 (reference: gke.md B3)."""
DIGEST, RUN, VERIFIED = "llm-release-digest", "llm-release-run", "llm-release-verified"
"""Labels of an image, and of what builds it."""
ASKED = "llm-release-asked"
"""Label of an image that a person asked for, not a release: it may be for something that we do not deploy."""
TREES = "llm-release-trees"
"""Label of a disk whose build is done, and of its image: the hash over its layers. The machine may go then."""
SIZE = "llm-release-size"
"""Label of a machine: GiB of the disk that it was started with."""
PREFIX = "llmr-engine-"
"""Of every image's name: what a cluster's allow-list permits."""
FAMILY = "llm-release-engine"
NODE_LABEL = "cloud.google.com.node-restriction.kubernetes.io/gke-secondary-boot-disk-"
"""With an image's name: label of the nodes that have that image as a secondary boot disk."""
WORD = "llm-release/result"
"""Guest attribute that a machine's result is in, beside the serial port."""
IMAGE_ID = "llm-release-image-id"
"""Label of what verifies an image: the image's numeric id."""
SCRIPT_ENDED = "Finished running startup scripts"
"""What Google's guest agent says in the end, whatever became of the script."""
TREES_LENGTH = 63
"""Of a sha256's 64 characters; a label's value has no room for more."""
_READ_MIB_S = 60
"""That a machine reads and hashes at least of a balanced disk."""
_RESULT = r"llm-release-{kind}\[{run}\]: RESULT=(SUCCESS|FAILURE)([^\r\n]*)[\r\n]"


@dataclass(frozen=True, slots=True)
class Names:
    """Names of everything that is made for one engine image, or for several. `digest` is "sha256:<64 hex>"."""

    digest: str

    @classmethod
    def of(cls, images: Sequence[str]) -> Names:
        """
        Args:
            images: each with its digest, in any order. Several have a digest of their digests.
        """
        digests = sorted({image.rpartition("@")[2] for image in images})
        if len(digests) == 1:
            return cls(digests[0])
        return cls("sha256:" + hashlib.sha256(" ".join(digests).encode()).hexdigest())

    @property
    def _hex(self) -> str:
        return self.digest.removeprefix("sha256:")

    @property
    def image(self) -> str:
        """
        >>> name = Names("sha256:" + "0123456789abcdef" * 4).image
        >>> name, len(name) <= NAME_LIMIT
        ('llmr-engine-0123456789abcdef0123', True)
        """
        return f"{PREFIX}{self._hex[:20]}"

    def node_selector(self, project: str) -> dict[str, str]:
        """Asks for a node with this disk; Autopilot makes one."""
        return {NODE_LABEL + self.image: f"CONTAINER_IMAGE_CACHE.{project}"}

    @property
    def builder(self) -> str:
        """The machine that builds it, and its disk."""
        return f"llmr-build-{self._hex[:20]}"

    @property
    def verifier(self) -> str:
        return f"llmr-verify-{self._hex[:20]}"

    @property
    def labels(self) -> dict[str, str]:
        """A label's value has 63 characters at most, a digest 64: the last is left out."""
        return {"managed-by": FIELD_MANAGER, DIGEST: self._hex[:63]}


def is_verified(labels: Mapping[str, str]) -> bool:
    """Of an image: a machine has read all of it."""
    return labels.get(VERIFIED) == "true"


def run_label(holder: str) -> str:
    """A run as a label's value, which may not hold what a run id holds.

    >>> run_label("release__gemma/manual__2026-11-21T10:00:00+00:00")
    'r-6372939b7569'
    """
    return f"r-{hashlib.sha256(holder.encode()).hexdigest()[:12]}"


def size_gib(compressed_bytes: int) -> int:
    """Of the disk for an image whose layers are that big in the registry."""
    return max(MIN_GIB, math.ceil(compressed_bytes * UNPACKED * HEADROOM / GIB))


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Names of an image's layers as a node knows them: each says what lies below it (OCI image spec, layer chain ID).

    Args:
        diff_ids: digests of the unpacked layers, lowest first, as the image's config lists them.
    """
    chain: list[str] = []
    for layer in diff_ids:
        below = chain[-1] if chain else ""
        chain.append("sha256:" + hashlib.sha256(f"{below} {layer}".encode()).hexdigest() if below else layer)
    return tuple(chain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a build or a verification ended, by its machine's own word."""

    ok: bool
    fields: dict[str, str]
    """Such as layers, used_kib, trees; of a failure stage, code, line."""
    reason: str = ""
    """Of a failure, in words."""

    @property
    def disk_too_small(self) -> bool:
        said = self.reason.lower()
        return said.startswith("disk too small") or "no space left on device" in said

    @property
    def damaged(self) -> bool:
        """The disk was read, and holds something else than it should."""
        return self.fields.get("verdict") == "damaged"


NO_WORD = Result(ok=False, fields={}, reason="its startup script ended without a result")
"""Of a machine whose script was killed, such as for its memory."""


def trees(result: Result) -> str | None:
    """The hash over all layers that a build reported, cut to a label's length; None when it did not."""
    found = result.fields.get("trees", "") if result.ok else ""
    return found[:TREES_LENGTH] if re.fullmatch(r"[0-9a-f]{64}", found) else None


def verify_within_s(size_gib: int) -> int:
    """Seconds after which Compute itself ends a machine that reads a disk of that size."""
    return max(1800, size_gib * 1024 // _READ_MIB_S)


def spoken(attribute: str, *, kind: str) -> str:
    """The guest attribute ("<run> <result>") as the line that the serial port has for it.

    >>> spoken("r-1 SUCCESS layers=3", kind="build")
    'llm-release-build[r-1]: RESULT=SUCCESS layers=3\\n'
    """
    run, _, said = attribute.partition(" ")
    return f"llm-release-{kind}[{run}]: RESULT={said}\n"


def result(printed: str, *, kind: str, run: str) -> Result | None:
    """The final line of this run's script, None while there is none.

    Args:
        printed: of the serial port; lines have a prefix there. One that is not ended yet is no line.
        kind: build or verify.
        run: word that the machine was given: a machine that was started twice holds old lines.
    """
    found = re.search(_RESULT.format(kind=kind, run=re.escape(run)), printed)
    if found is None:
        return None
    words, _, reason = found[2].strip().partition("reason=")
    return Result(
        ok=found[1] == "SUCCESS",
        fields=dict(word.split("=", 1) for word in words.split() if "=" in word),
        reason=reason.strip(),
    )
