"""Whether a GKE cluster can have nodes with secondary boot disks in the way that its file says (gke.md, B1 to B3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

STANDARD_SINCE = "1.28.3-gke.1067000"
AUTOPILOT_SINCE = "1.30.1-gke.1329000"
"""First versions of the control plane with secondary boot disks."""
CLASSES_SINCE = "1.31.2-gke.1105000"
"""First version with secondary boot disks in a ComputeClass."""
CLASSES_ALONE_SINCE = "1.33.3-gke.1136000"
"""First version where a Standard cluster makes node pools for a ComputeClass without node auto-provisioning."""
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)-gke\.(\d+)")
_ARTIFACT_REGISTRY = re.compile(r"([a-z0-9-]+)-docker\.pkg\.dev")
_ZONE = re.compile(r"(.+\d)-[a-z]")
MULTI_REGIONS = ("us", "europe", "asia")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A GKE cluster as the API reports it."""

    version: str
    """Of the control plane, such as 1.36.3-gke.1000000."""
    autopilot: bool
    auto_provisioning: bool
    """Whether a Standard cluster makes node pools by itself for pods that need one."""
    image_streaming: bool
    """Whether new node pools have it when they do not say otherwise."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What does not fit; `refused` when no node with the disk could come of it."""

    cause: str
    next_action: str
    refused: bool = True


def version(text: str) -> tuple[int, int, int, int] | None:
    """What versions are compared by; None for one that is not GKE's.

    >>> version("1.30.1-gke.1329000") > version("1.30.1-gke.999999"), version("1.9.0-gke.1") < version("1.28.3-gke.1")
    (True, True)
    """
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), int(found[3]), int(found[4])) if found else None


def findings(cluster: Cluster, mode: str) -> Iterator[Finding]:
    """Everything that does not fit.

    Args:
        mode: `node_images.mode` of the cluster's file.
    """
    yield from _mode(cluster, mode)
    yield from _old(cluster, mode)
    yield from _streaming(cluster, mode)


def _mode(cluster: Cluster, mode: str) -> Iterator[Finding]:
    if mode == "standard" and cluster.autopilot:
        yield Finding(
            "it is an Autopilot cluster, where no node pool can be made (node_images.mode is standard)",
            "choose mode autopilot or compute-class in the cluster's file.",
        )
    if mode == "autopilot" and not (cluster.autopilot or cluster.auto_provisioning):
        yield Finding(
            "it is a Standard cluster without node auto-provisioning, and makes no node for a pod's label"
            " (node_images.mode is autopilot)",
            "choose mode standard or compute-class in the cluster's file.",
        )


def _old(cluster: Cluster, mode: str) -> Iterator[Finding]:
    least, where = _least(cluster, mode)
    have, need = version(cluster.version), version(least)
    assert need is not None
    if have is None:
        yield Finding(
            f"its version {cluster.version!r} is not of GKE's form",
            f"see that it is {least} or later.",
            refused=False,
        )
    elif have < need:
        yield Finding(
            f"its version {cluster.version} is older than {least}, which mode {mode} needs {where}",
            f"upgrade the cluster to {least} or later, or take node_images out of its file.",
        )


def _least(cluster: Cluster, mode: str) -> tuple[str, str]:
    """-> version, and the kind of cluster that needs it."""
    if mode == "compute-class":
        if cluster.autopilot or cluster.auto_provisioning:
            return CLASSES_SINCE, "here"
        return CLASSES_ALONE_SINCE, "on a Standard cluster without node auto-provisioning"
    return AUTOPILOT_SINCE if cluster.autopilot else STANDARD_SINCE, "here"


def _streaming(cluster: Cluster, mode: str) -> Iterator[Finding]:
    if cluster.autopilot or cluster.image_streaming:
        return
    yield Finding(
        "image streaming is off for new node pools, and without it layers on a disk are not used",
        "nothing: the pools that a release makes switch it on themselves."
        if mode == "standard"
        else "gcloud container clusters update <cluster> --enable-image-streaming.",
        refused=mode != "standard",
    )


def not_streamed(image: str, location: str) -> str:
    """Why image streaming cannot serve an engine's image in a cluster; empty when it can.

    Args:
        image: as its registry has it, with a tag or a digest.
        location: region of the cluster, or its zone.

    >>> not_streamed("europe-docker.pkg.dev/p/r/i:v1", "us-central1-a")
    'its registry is in europe, the cluster in us-central1'
    >>> not_streamed("us-docker.pkg.dev/p/r/i:v1", "us-central1-a")
    ''
    """
    host = image.partition("/")[0]
    found = _ARTIFACT_REGISTRY.fullmatch(host)
    if found is None:
        return f"{host} is no Artifact Registry (<location>-docker.pkg.dev)"
    zone = _ZONE.fullmatch(location)
    there, here = found[1], zone[1] if zone else location
    if there == here or (there in MULTI_REGIONS and here.startswith(f"{there}-")):
        return ""
    return f"its registry is in {there}, the cluster in {here}"
