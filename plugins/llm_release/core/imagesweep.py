"""Which disk images of ours may go, and which disks that builds left; and why each of the others stays.

An image is deleted only when nothing that is known of can ask for it again: a node that is to come would wait for a
disk that is no more, and a pod would wait for that node (gke.md, pitfalls B).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llm_release.core import bootdisk
from llm_release.core.names import FIELD_MANAGER

MIN_AGE = datetime.timedelta(days=7)
"""A younger one may have been built ahead of its first release."""
MIN_AGE_UNVERIFIED = datetime.timedelta(days=1)
"""No node is made from one that is not verified, and no build takes so long."""
MIN_AGE_DISK = datetime.timedelta(days=1)
"""No build takes longer."""
OURS = {"managed-by": FIELD_MANAGER}
"""Label of every image of ours, and of every disk."""
_PLACE = re.compile(r"llmr-([0-9a-f]{12})-[0-9a-f]{8}")
"""Name of a node pool or ComputeClass of ours (`nodeplace.name`); the image's name begins with the same digest."""


@dataclass(frozen=True, slots=True)
class Found:
    """A disk image as Compute reports it."""

    name: str
    status: str
    labels: Mapping[str, str]
    created: str
    """RFC 3339."""


@dataclass(frozen=True, slots=True)
class FoundDisk:
    """A disk as Compute reports it."""

    name: str
    zone: str
    labels: Mapping[str, str]
    users: tuple[str, ...]
    created: str
    """RFC 3339."""

    @property
    def shown(self) -> str:
        return f"{self.zone}/{self.name}"


@dataclass(frozen=True, slots=True)
class Use:
    """Something that names a disk image."""

    image: str
    """Its name, or how it begins."""
    by: str
    """As "Deployment llm/gemma-0123456789"."""


@dataclass(frozen=True, slots=True)
class Choice:
    delete: tuple[str, ...]
    kept: Mapping[str, str]
    """Image -> why it stays."""


def choose(found: Iterable[Found], uses: Iterable[Use], *, own: str, now: datetime.datetime) -> Choice:
    """
    Args:
        uses: of every cluster that can have nodes with these images.
        own: image of the run that asks; empty for none.
        now: with its time zone.
    """
    known = tuple(uses)
    reasons = {f.name: _kept(f, known, own=own, now=now) for f in found}
    return Choice(
        tuple(sorted(name for name, why in reasons.items() if not why)),
        {name: why for name, why in sorted(reasons.items()) if why},
    )


def _kept(found: Found, uses: tuple[Use, ...], *, own: str, now: datetime.datetime) -> str:
    """Why an image stays, empty when it may go."""
    if not ours(found):
        return "has no label of ours for that name"
    if named := sorted({u.by for u in uses if u.image and found.name.startswith(u.image)}):
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        return f"named by {', '.join(named[:3])}{more}"
    if found.name == own:
        return "is this run's own"
    if found.status == "DELETING":
        return "is being deleted already"
    if found.labels.get(bootdisk.ASKED) == "true":
        return "was asked for by a person: delete it by hand"
    verified = found.labels.get(bootdisk.VERIFIED) == "true"
    return _young(found.created, MIN_AGE if verified else MIN_AGE_UNVERIFIED, now)


def _young(created: str, least: datetime.timedelta, now: datetime.datetime) -> str:
    try:
        age = now - datetime.datetime.fromisoformat(created)
    except (ValueError, TypeError):  # none, or one without a time zone
        return f"has no age: it was made at {created or 'an unknown time'}"
    return f"is younger than {least.days} day{'s' if least.days > 1 else ''}" if age < least else ""


def leftover(found: FoundDisk) -> bool:
    """Whether a disk was made by a build or its verification: our labels, and the name that belongs to them."""
    names = _names(found.labels)
    made_by = found.name.removesuffix("-boot")
    return not OURS.items() - found.labels.items() and made_by in (names.builder, names.verifier)


def _names(labels: Mapping[str, str]) -> bootdisk.Names:
    return bootdisk.Names(f"sha256:{labels.get(bootdisk.DIGEST, '')}")


def disk_kept(found: FoundDisk, *, own: str, now: datetime.datetime) -> str:
    """Why the disk of a build stays, empty when it may go.

    Args:
        own: image of the run that asks; empty for none.
        now: with its time zone.
    """
    if found.users:
        return f"is in use by {', '.join(found.users)}"
    if _names(found.labels).image == own:
        return "is this run's own"
    return _young(found.created, MIN_AGE_DISK, now)


def ours(found: Found) -> bool:
    """Whether we made an image: our labels, and the name that belongs to the digest among them.

    A copy under another name has the labels too, and is somebody's backup.
    """
    digest = found.labels.get(bootdisk.DIGEST, "")
    return not OURS.items() - found.labels.items() and found.name == bootdisk.Names(f"sha256:{digest}").image


def in_pod_spec(spec: Mapping[str, Any]) -> Iterator[str]:
    """Images that a pod asks for: by Autopilot's node label, or by a node pool or ComputeClass of ours.

    Of the latter the name tells how the image's begins; so a pool that is made again still finds its image.

    >>> list(in_pod_spec({"nodeSelector": {"cloud.google.com/gke-nodepool": "llmr-0123456789ab-00000000"}}))
    ['llmr-engine-0123456789ab']
    """
    for text in _texts(spec):
        if text.startswith(bootdisk.NODE_LABEL):
            yield text.removeprefix(bootdisk.NODE_LABEL)
        elif place := _PLACE.fullmatch(text):
            yield bootdisk.PREFIX + place[1]


def in_compute_class(spec: Any) -> Iterator[str]:
    """Images that a ComputeClass names, wherever in it: `diskImageName`, bare or as a path.

    >>> list(in_compute_class({"priorities": [{"storage": {"secondaryBootDisks": [{"diskImageName": "a"}]}}]}))
    ['a']
    """
    if isinstance(spec, Mapping):
        if isinstance(named := spec.get("diskImageName"), str):
            yield named.rpartition("/")[2]
        spec = list(spec.values())
    if isinstance(spec, list):
        for part in spec:
            yield from in_compute_class(part)


def _texts(document: Any) -> Iterator[str]:
    """Every key and every text of a JSON document."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, Mapping):
        for key, value in document.items():
            yield str(key)
            yield from _texts(value)
    elif isinstance(document, list):
        for part in document:
            yield from _texts(part)
