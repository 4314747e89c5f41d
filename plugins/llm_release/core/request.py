"""What the person or the schedule that starts a run may choose: the trigger forms, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_release.core.rules import IMAGE, SUBNETWORK, ZONE, check_rules, decoded
from llm_release.core.strict import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest:
    """What the person or the schedule that started a run may choose."""

    revision: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """What the person who asks for a disk image may choose."""

    images: tuple[str, ...]
    """With tag or digest; none when only `sweep` is asked for."""
    zone: str | None = None
    size_gib: int | None = None
    network: str | None = None
    """Subnetwork: regions/<region>/subnetworks/<name>."""
    sweep: bool = False
    """Whether disk images of ours that nothing names go."""


def image_request(conf: Mapping[str, Any], known: frozenset[str]) -> ImageRequest:
    """Checks the conf of DAG `node_image`, as `release_request` does for a release."""
    _check_known(conf, known)
    chosen = {k: conf[k] or None for k in ("zone", "size_gib", "network") if k in conf}
    more = {k: conf[k] for k in ("sweep",) if k in conf}
    request = decoded(ImageRequest, {"images": conf.get("images") or [], **chosen, **more}, "the trigger")
    strange = [image for image in request.images if not IMAGE.fullmatch(image)]
    check_rules(
        [
            (
                "images",
                bool(request.images) or request.sweep,
                "at least one engine image is wanted, or sweep",
            ),
            ("images", not strange, f"{strange[:1]} is no image with a tag or digest"),
            ("zone", request.zone is None or bool(ZONE.fullmatch(request.zone)), "is no zone"),
            ("size_gib", request.size_gib is None or request.size_gib >= 10, "at least 10 GiB"),
            (
                "network",
                request.network is None or bool(SUBNETWORK.fullmatch(request.network)),
                "is no regions/<region>/subnetworks/<name>",
            ),
        ],
        "the trigger",
    )
    return request


def release_request(conf: Mapping[str, Any], known: frozenset[str]) -> ReleaseRequest:
    """Checks a run's conf against the form's own keys.

    Airflow accepts unknown conf keys and then quietly uses the default, so a mistyped key would release
    the wrong thing.

    Args:
        conf: what was sent with the trigger.
        known: names of the DAG's params.
    """
    _check_known(conf, known)
    chosen = {k: v or None for k, v in conf.items() if k in ("revision", "image")}
    request = decoded(ReleaseRequest, chosen, "the trigger")
    if request.image is not None and not IMAGE.fullmatch(request.image):
        raise Invalid("image", f"{request.image!r} is no image with a tag or digest", document="the trigger")
    return request


def _check_known(conf: Mapping[str, Any], known: frozenset[str]) -> None:
    for key in conf.keys() - known:
        raise Invalid(
            key, f"is not a parameter of this DAG; known: {', '.join(sorted(known))}", document="the trigger"
        )
