"""Builds the disk image that holds engine images; one that exists for its digest is used as it is.

A machine with an empty disk pulls the images and copies their layers (include/builder/build.sh); the disk becomes an
image. Each call looks, takes one step, and says what to wait for.
"""

from __future__ import annotations

from collections.abc import Callable

from llm_release.clients import registry
from llm_release.clients.compute import Disk
from llm_release.clients.machines import BOOT_GIB, Image, Machine, Wish
from llm_release.core import bootdisk
from llm_release.core.bootdisk import Result
from llm_release.core.errors import Permanent
from llm_release.steps.image_work import Wanted, Work, check_ours
from llm_release.steps.world import Surroundings, Wait

BUILD = "build"


def build(at: Surroundings, wanted: Wanted, hold: Callable[[], None]) -> Image | Wait:
    """
    Args:
        hold: is called right before anything is changed; raises when this run may not.

    Raises:
        Permanent, Transient: the build failed; its reason, in the machine's own words.
    """
    work = Work(at, wanted, hold)
    image = at.machines.image(work.names.image)
    if image is None:
        return _build(work)
    check_ours(image, work.names)
    if image.status == "FAILED":
        at.log(f"image {image.name} is FAILED: deleting it, to be made again")
        return work.delete_image()
    if image.status != "READY":
        return Wait("image", image.name, 900, f"image {image.name} to be ready")
    return work.remove(work.names.builder) or image


def _build(work: Work) -> Wait:
    at, zone, name = work.at, work.zone, work.names.builder
    disk = at.disks.get(zone, name)
    machine = at.machines.machine(zone, name)
    if machine is not None:
        work.check_ours(machine, "machine")
        return work.over(machine) or _watch(work, machine, disk)
    if disk is None:
        size = _size(work)
        at.log(f"creating disk={name} size_gib={size}")
        return work.begin(
            lambda: at.machines.create_disk(zone, name, size_gib=size, labels=work.labels),
            f"disk {name} to be created",
            exists=lambda: at.disks.get(zone, name),
        )
    work.check_ours(disk, "disk")
    if disk.status != "READY":
        return Wait("disk", name, 300, f"disk {name} to be ready", zone=zone)
    if trees := disk.labels.get(bootdisk.TREES):
        return _make_image(work, trees)
    return work.adopt(disk) or _start(work, size_gib=disk.size_gib)


def _size(work: Work) -> int:
    if work.wanted.size_gib:
        return work.wanted.size_gib
    return bootdisk.size_gib(sum(work.at.registry.layers(i).compressed_bytes for i in work.wanted.images))


def _make_image(work: Work, trees: str) -> Wait:
    at, wanted, names = work.at, work.wanted, work.names
    at.log(f"copying disk={names.builder} to image={names.image}")
    asked = {bootdisk.ASKED: "true"} if wanted.asked else {}
    return work.begin(
        lambda: at.machines.create_image(
            names.image,
            zone=work.zone,
            disk=names.builder,
            family=bootdisk.FAMILY,
            labels=work.labels | {bootdisk.TREES: trees} | asked,
            description=f"layers of {wanted.shown} for GKE's container image cache",
            location=wanted.spec.location,
        ),
        f"image {names.image} to be made",
        exists=lambda: at.machines.image(names.image),
        within=1800,
    )


def _start(work: Work, *, size_gib: int) -> Wait:
    spec, images = work.wanted.spec, work.wanted.images
    hosts = {image.partition("/")[0] for image in images}
    with_token = {host for host in hosts if spec.service_account and registry.is_google(host)}
    about = {
        "llm-release-images": " ".join(images),
        "llm-release-token-hosts": " ".join(sorted(with_token)),
        "llm-release-plain-http-hosts": " ".join(sorted(hosts & set(work.at.cluster.insecure_registries))),
    }
    wish = Wish(
        name=work.names.builder,
        kind=spec.machine,
        boot_image=spec.boot_image,
        # containerd's own copy of the layers, packed and unpacked, lies on the boot disk
        boot_gib=BOOT_GIB + 2 * size_gib,
        work_disk=work.names.builder,
        read_only=False,
        subnetwork=spec.subnetwork,
        service_account=spec.service_account,
        metadata=work.metadata(BUILD) | about,
        labels=work.labels | {bootdisk.SIZE: str(size_gib)},
        within=int(spec.build_within),
    )
    return work.start(wish)


def _watch(work: Work, machine: Machine, disk: Disk | None) -> Wait:
    """What to do with a machine that runs: wait for its word, and do what follows from it."""
    at, zone, name = work.at, work.zone, work.names.builder
    if disk is None or int(machine.labels.get(bootdisk.SIZE, 0)) < disk.size_gib:
        # Its disk is gone, or was made larger since: another machine must build.
        return work.delete_machine(name)
    result = work.word(machine, BUILD)
    if result is None:
        what = f"machine {name} to build the image"
        return Wait("machine", name, work.wanted.spec.build_within + 300, what, zone=zone)
    if result is bootdisk.NO_WORD:
        at.log(f"{result.reason}: another machine tries")
        return work.delete_machine(name)
    trees = bootdisk.trees(result)
    if trees is None:
        return _failed(work, result, disk)
    if bootdisk.TREES in disk.labels:
        return work.delete_machine(name)
    at.log(f"built {' '.join(f'{k}={v}' for k, v in result.fields.items())}")
    labels = {**disk.labels, bootdisk.TREES: trees}
    return work.begin(lambda: at.disks.label(disk, labels), f"disk {name} to be labelled")


def _failed(work: Work, result: Result, disk: Disk) -> Wait:
    twice = 2 * _size(work)
    if result.disk_too_small and disk.size_gib < twice:
        work.at.log(f"{result.reason}; once more with size_gib={twice}")
        return work.begin(
            lambda: work.at.disks.resize(work.zone, disk.name, twice), f"disk {disk.name} to be made larger"
        )
    # whoever clears the task finds no machine that has failed already
    work.delete_machine(work.names.builder)
    raise Permanent(
        f"the boot disk for {work.wanted.shown} could not be built, stage {result.fields.get('stage', '?')}:"
        f" {result.reason or 'it told no hash of its layers'}.",
        next_action="correct what it names and clear this task, or take node_images out of the cluster's file.",
    )
