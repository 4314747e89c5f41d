"""Builds the disk image that holds engine images; one that exists for its digest is used as it is.

A machine with an empty disk pulls the images and copies their layers (include/builder/build.sh); the disk becomes an
image. Each call looks, takes one step, and says what to wait for.
"""

from __future__ import annotations

from collections.abc import Callable

from llm_release.clients.compute import Disk
from llm_release.clients.machines import BOOT_GIB, Image, Machine, Wish
from llm_release.core import bootdisk
from llm_release.core.bootdisk import Names, Result
from llm_release.core.errors import Conflict, Permanent
from llm_release.steps.image_work import (
    Wanted,
    begun,
    check_ours,
    delete_machine,
    going,
    labels_of,
    metadata,
    operation,
    remove,
    soon,
    start,
    word_of,
)
from llm_release.steps.world import Surroundings, Wait

BUILD = "build"


def build(at: Surroundings, wanted: Wanted, hold: Callable[[], None]) -> Image | Wait:
    """
    Args:
        hold: is called before anything is changed; raises when this run may not.

    Raises:
        Permanent, Transient: the build failed; its reason, in the machine's own words.
    """
    names = wanted.names
    image = at.machines.image(names.image)
    if image is None:
        hold()
        return _build(at, wanted, names)
    check_ours(image, names)
    if image.status != "READY":
        return Wait("image", names.image, 900, f"image {names.image} to be ready")
    return remove(at, wanted.spec, names.builder) or image


def _build(at: Surroundings, wanted: Wanted, names: Names) -> Wait:
    spec = wanted.spec
    disk = at.disks.get(spec.zone, names.builder)
    machine = at.machines.machine(spec.zone, names.builder)
    if machine is not None:
        return going(machine) or _watch(at, wanted, names, machine, disk)
    if disk is None:
        size = _size(at, wanted)
        at.log(f"creating disk={names.builder} size_gib={size}")
        return begun(
            lambda: at.machines.create_disk(
                spec.zone, names.builder, size_gib=size, labels=labels_of(at, names)
            ),
            f"disk {names.builder} to be created",
            exists=lambda: at.disks.get(spec.zone, names.builder),
        )
    if names.labels.items() - disk.labels.items():
        raise Permanent(
            f"disk {disk.name} exists and is not ours.", next_action="delete or rename that disk."
        )
    if disk.status != "READY":
        return Wait("disk", disk.name, 300, f"disk {disk.name} to be ready", zone=spec.zone)
    if trees := disk.labels.get(bootdisk.TREES):
        return _make_image(at, wanted, names, trees)
    return _start_builder(at, wanted, names, size_gib=disk.size_gib)


def _size(at: Surroundings, wanted: Wanted) -> int:
    if wanted.size_gib:
        return wanted.size_gib
    return bootdisk.size_gib(sum(at.registry.layers(image).compressed_bytes for image in wanted.images))


def _make_image(at: Surroundings, wanted: Wanted, names: Names, trees: str) -> Wait:
    at.log(f"copying disk={names.builder} to image={names.image}")
    return begun(
        lambda: at.machines.create_image(
            names.image,
            zone=wanted.spec.zone,
            disk=names.builder,
            family=bootdisk.FAMILY,
            labels=labels_of(at, names) | {bootdisk.TREES: trees},
            description=f"layers of {wanted.shown} for GKE's container image cache",
            location=wanted.spec.location,
        ),
        f"image {names.image} to be made",
        exists=lambda: at.machines.image(names.image),
        within=1800,
    )


def _start_builder(at: Surroundings, wanted: Wanted, names: Names, *, size_gib: int) -> Wait:
    spec, hosts = wanted.spec, {image.partition("/")[0] for image in wanted.images}
    about = {
        "llm-release-images": " ".join(wanted.images),
        "llm-release-auth": "metadata" if spec.service_account and any(map(_googles, hosts)) else "none",
        "llm-release-plain-http": str(hosts <= set(at.cluster.insecure_registries)).lower(),
    }
    wish = Wish(
        name=names.builder,
        kind=spec.machine,
        # containerd's own copy of the layers, packed and unpacked, lies on the boot disk
        boot_gib=BOOT_GIB + 2 * size_gib,
        work_disk=names.builder,
        read_only=False,
        subnetwork=spec.subnetwork,
        service_account=spec.service_account,
        metadata=metadata(at, BUILD) | about,
        labels=labels_of(at, names) | {bootdisk.SIZE: str(size_gib)},
        within=int(spec.build_within),
    )
    return start(at, spec, wish)


def _googles(host: str) -> bool:
    return host.endswith("docker.pkg.dev") or host == "gcr.io" or host.endswith(".gcr.io")


def _watch(at: Surroundings, wanted: Wanted, names: Names, machine: Machine, disk: Disk | None) -> Wait:
    """What to do with a machine that is there: wait for its word, and do what follows from it."""
    zone = wanted.spec.zone
    if disk is None or int(machine.labels.get(bootdisk.SIZE, 0)) < disk.size_gib:
        # Its disk is gone, or was made larger since: another machine must build.
        return delete_machine(at, zone, names.builder)
    result = word_of(at, wanted.spec, machine, BUILD)
    if result is None:
        what = f"machine {names.builder} to build the image"
        return Wait("machine", names.builder, wanted.spec.build_within + 300, what, zone=zone)
    if not result.ok:
        return _failed(at, wanted, names, result, disk)
    if bootdisk.TREES in disk.labels:
        return delete_machine(at, zone, names.builder)
    at.log(f"built {' '.join(f'{k}={v}' for k, v in result.fields.items())}")
    labels = {**disk.labels, bootdisk.TREES: result.fields["trees"][: bootdisk.TREES_LENGTH]}
    try:
        started = at.disks.label(disk, labels)
    except Conflict:  # another run labelled it in between
        return soon(f"disk {names.builder} to be labelled")
    return operation(started.name, zone, f"disk {names.builder} to be labelled")


def _failed(at: Surroundings, wanted: Wanted, names: Names, result: Result, disk: Disk) -> Wait:
    twice = 2 * _size(at, wanted)
    if result.disk_too_small and disk.size_gib < twice:
        at.log(f"{result.reason}; once more with size_gib={twice}")
        started = at.disks.resize(wanted.spec.zone, names.builder, twice)
        return operation(started.name, wanted.spec.zone, f"disk {names.builder} to be made larger")
    # whoever clears the task finds no machine that has failed already
    delete_machine(at, wanted.spec.zone, names.builder)
    raise Permanent(
        f"the boot disk for {wanted.shown} could not be built, stage {result.fields.get('stage', '?')}:"
        f" {result.reason}.",
        next_action="correct what it names and clear this task, or take node_images out of the cluster's file.",
    )
