"""A release: what is served, pinned to bytes. Made once by `resolve`, immutable afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from llm_release.core.spec import ServiceSpec
from llm_release.core.strict import encode

ID_LENGTH = 10
"""Hex digits of a release id: 40 bits, so that a service's thousandth release collides with odds of 1 in 2 million."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Every field is what it was at `resolve`; nothing in here is a branch or a tag."""

    id: str
    service: str
    cluster: str
    namespace: str
    repo: str
    revision: str
    """As asked for, for people; never used to fetch anything."""
    commit: str
    """40 hex."""
    listing: str
    """Digest of path, size and content hash of every selected file."""
    weight_bytes: int
    total_bytes: int
    files: int
    gated: bool
    license: str | None
    image: str
    """repository@sha256:..."""
    image_tag: str
    """As asked for, for people."""
    toolbox: str
    """repository@sha256:..."""
    zone: str
    probe_file: str
    """One weight file, to prove that the token may download."""


def release_id(spec: ServiceSpec, *, commit: str, listing: str, image: str) -> str:
    """Hash of all that changes the served thing; gates, replicas and the jobs' own image do not."""
    served = {
        "repo": spec.model.repo,
        "commit": commit,
        "listing": listing,
        "trust_remote_code": spec.model.trust_remote_code,
        "image": image,
        "engine": {k: v for k, v in _mapping(encode(spec.engine)).items() if k != "image"},
        "accelerator": encode(spec.accelerator),
        "weights": encode(spec.weights),
    }
    text = json.dumps(served, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def _mapping(value: object) -> Mapping[str, object]:
    assert isinstance(value, Mapping)
    return value
