"""Secondary boot disk against a pull: `python -m testbench.perf.bootdisk`.

One engine image, one node with its disk and one without any image, interleaved: pod created -> container started.
The node without pulls through a proxy that lets 30 MB/s pass, about what one node gets from a registry in its region
for one layer; the builder pulls unthrottled. Also told: what building and verifying the disk image took. Prints
Markdown; needs the bench, and nothing else at work on it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from llm_release.clients.kube_objects import Ref
from llm_release.clients.kubernetes import Kubernetes
from llm_release.clients.machines import Image
from llm_release.core.clusterspec import NodeImages
from llm_release.core.errors import ReleaseError
from llm_release.hooks.cluster import ClusterHook
from llm_release.steps import image_build, image_verify, image_work, manifests
from llm_release.steps.image_work import Wanted
from llm_release.steps.waiting import Look
from llm_release.steps.world import Surroundings, Wait
from testbench import bench, config
from testbench.airflow import settings
from testbench.build import go
from testbench.cluster import nodes
from testbench.cluster.node import Node
from testbench.images import odd
from testbench.perf.throttle import throttled

HOME = Path(__file__).resolve().parents[2]
NAMESPACE = "llm"
CAP = 30e6
"""Bytes a second that the node without the disk gets from the registry."""
LEAST_RATIO = 10.0
MADE_BYTES = 200_000_000
"""Beside the base of 172 MB."""
SPEC = NodeImages(mode="autopilot", zone=config.ZONE, subnetwork="regions/us-central1/subnetworks/default")
_STARTED_WITHIN_S = 600.0
T = TypeVar("T")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument(
        "--image", help="repository:tag in the bench's registry; without it one of 372 MB is made"
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--build-only", action="store_true")
    asked = options.parse_args()
    os.environ.update(settings.connections())
    hook = ClusterHook(manifests.cluster(HOME, "demo"))
    image = hook.registry().digest(f"{config.REGISTRY}/{asked.image}") if asked.image else _bulky()
    wanted, size = Wanted((image,), SPEC), hook.registry().layers(image).compressed_bytes
    print(f"{image.partition('@')[0]}: {size / 1e6:.0f} MB in the registry\n", flush=True)
    with _built(hook, wanted) as made:
        if asked.build_only:
            return 0
        with_disk, without = _compare(hook.kubernetes(), made, image, rounds=asked.rounds)
    ratio = statistics.median(without) / statistics.median(with_disk)
    print("| | median s | min | max |\n|---|---|---|---|")
    for name, row in (("pull, 30 MB/s", without), ("secondary boot disk", with_disk)):
        print(f"| {name} | {statistics.median(row):.2f} | {min(row):.2f} | {max(row):.2f} |")
    print(
        f"\nratio of the medians: {ratio:.0f}x over {asked.rounds} interleaved rounds (at least {LEAST_RATIO:.0f}x)"
    )
    return 0 if ratio >= LEAST_RATIO else 1


def _bulky() -> str:
    base = next((config.CACHE / "images").glob("debian-*.tar"))
    return odd.bulky(base, MADE_BYTES)


@contextmanager
def _built(hook: ClusterHook, wanted: Wanted) -> Iterator[Image]:
    """Builds and verifies the disk image, told in seconds; it is deleted at the end if it was not there before."""
    at = Surroundings(cluster=hook.cluster, connect=hook, home=HOME, holder=f"perf/{os.getpid()}")
    there = at.machines.image(wanted.names.image) is not None
    try:
        made, built = _timed(at, lambda: image_build.build(at, wanted, lambda: None))
        verified, read = _timed(at, lambda: image_verify.verify(at, wanted, made.id, lambda: None))
        if not there:
            print(f"\nbuilt in {built:.0f} s, verified in {read:.0f} s\n", flush=True)
        yield verified
    finally:
        if not there:
            _timed(at, lambda: image_work.end(at, wanted))
            at.machines.delete_image(wanted.names.image)


def _timed(at: Surroundings, step: Callable[[], T | Wait]) -> tuple[T, float]:
    """Runs a step until it no longer waits. -> what it found, seconds"""
    started = time.monotonic()
    while isinstance(found := step(), Wait):
        look = Look(found, at.connect)
        while (seen := look.once()).state == "waiting":
            if news := look.news(seen):
                print(f"{time.monotonic() - started:6.1f} s  {news}", flush=True)
            time.sleep(0.2)
        if seen.state == "failed":
            raise ReleaseError(seen.message, next_action=seen.next_action)
    return found, time.monotonic() - started


def _compare(kube: Kubernetes, made: Image, image: str, *, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds from a pod's creation to its container's start, on a fresh node each time."""
    with_disk: list[float] = []
    without: list[float] = []
    for number in range(rounds):
        pair = [(with_disk, made.name), (without, "")]
        for seconds, disk in pair if number % 2 else reversed(pair):
            seconds.append(_start(kube, image, disk=disk, name=f"perf-{number}-{'disk' if disk else 'pull'}"))
            print(f"{'disk' if disk else 'pull'} {seconds[-1]:.2f} s", flush=True)
    return with_disk, without


def _start(kube: Kubernetes, image: str, *, disk: str, name: str) -> float:
    """One pod on a node of its own, which is ready before the pod is made: only the container's way is timed."""
    index = max(nodes.indexes()) + 1
    node = Node(index, disk)
    with throttled(config.REGISTRY, CAP) as proxy:
        node.start(bench.PROCESSES, go.programs())
        node.mirror(proxy)
        try:
            return _timed_start(kube, image, node=node, name=name)
        finally:
            kube.delete(Ref("v1", "Pod", name, NAMESPACE))
            nodes.remove(index, bench.PROCESSES)


def _timed_start(kube: Kubernetes, image: str, *, node: Node, name: str) -> float:
    container = {"name": "engine", "image": image, "command": ["sleep", "600"]}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"llm-release/perf": "boot-disk"}},
        "spec": {"nodeName": node.name, "containers": [container], "terminationGracePeriodSeconds": 1},
    }
    started = time.monotonic()
    kube.apply(body)
    while time.monotonic() - started < _STARTED_WITHIN_S:
        pod = kube.get(Ref("v1", "Pod", name, NAMESPACE)) or {}
        status = pod.get("status", {}).get("containerStatuses") or [{}]
        if "running" in status[0].get("state", {}):
            return time.monotonic() - started
        time.sleep(0.05)
    raise RuntimeError(f"the container of {name} did not start within {_STARTED_WITHIN_S:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
