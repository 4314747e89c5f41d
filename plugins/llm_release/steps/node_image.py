"""Builds the secondary boot disk that holds the engine's image; one that exists for its digest is used as it is.

A machine with an empty disk pulls the image and copies its layers (include/builder/build.sh); the disk becomes an
image. Names come from the digest, so two releases that want the same image drive the same build: whoever looks next
takes the next step, and what another has done already is found done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.compute import Disk
from llm_release.clients.machines import BOOT_GIB, Image, Machine, Wish
from llm_release.core import bootdisk
from llm_release.core.bootdisk import Names, Result
from llm_release.core.errors import Permanent, Transient
from llm_release.core.spec import NodeImages
from llm_release.steps import lock
from llm_release.steps.world import Skipped, Wait, World

BUILD = "build"


@dataclass(frozen=True, slots=True)
class NodeImage:
    STEP: ClassVar[str] = "stage.node_image"
    image: str
    id: str
    digest: str
    size_gib: int
    trees: str
    """sha256 over the hashes of all layers, as the build reported it."""
    verified: bool


def run(world: World) -> NodeImage | Wait:
    """
    Raises:
        Skipped: the cluster has no secondary boot disks.
        Permanent, Transient: the build failed; its reason, in the machine's own words.
    """
    spec = settings(world)
    names = names_of(world)
    image = world.machines.image(names.image)
    if image is None:
        return _build(world, spec, names)
    check_ours(image, names)
    if image.status != "READY":
        return Wait("image", names.image, 900, f"image {names.image} to be ready")
    if waiting := _remove(world, spec, names):
        return waiting
    world.log(f"image={image.name} id={image.id} size_gib={image.size_gib} verified={_verified(image)}")
    return NodeImage(
        image.name,
        image.id,
        names.digest,
        image.size_gib,
        image.labels.get(bootdisk.TREES, ""),
        _verified(image),
    )


def settings(world: World) -> NodeImages:
    """Raises Skipped when the cluster has no secondary boot disks."""
    if world.cluster.node_images is None:
        raise Skipped(f"cluster {world.cluster.cluster} has no node_images: nodes pull the engine's image")
    return world.cluster.node_images


def names_of(world: World) -> Names:
    return Names(world.release.image.rpartition("@")[2])


def check_ours(image: Image, names: Names) -> None:
    """Raises Permanent when an image of that name is not the one for this digest."""
    if names.labels.items() - image.labels.items():
        raise Permanent(
            f"disk image {image.name} exists and is not ours for {names.digest}"
            f" (labelled {image.labels.get(bootdisk.DIGEST, 'with no digest')}).",
            next_action="delete or rename that image; nothing was changed.",
        )


def end_machines(world: World) -> Wait | None:
    """Deletes what this run started and did not end: it was killed, or its build failed."""
    if world.cluster.node_images is None:
        return None
    zone, names, ending = world.cluster.node_images.zone, names_of(world), None
    for name in (names.builder, names.verifier):
        machine = world.machines.machine(zone, name)
        if machine is not None and machine.labels.get(bootdisk.RUN) == bootdisk.run_label(world.holder):
            world.log(f"deleting machine={name}")
            ending = _delete_machine(world, zone, name)
    return ending


def remove_disks(world: World) -> list[str]:
    """Of those machines, once they are gone. -> what was removed"""
    if world.cluster.node_images is None:
        return []
    zone, names, removed = world.cluster.node_images.zone, names_of(world), []
    for name in (names.builder, names.verifier):
        disk = world.disks.get(zone, name)
        if disk is not None and disk.labels.get(bootdisk.RUN) == bootdisk.run_label(world.holder):
            world.disks.delete(zone, name)
            removed.append(f"disk {name}")
    return removed


def _verified(image: Image) -> bool:
    return image.labels.get(bootdisk.VERIFIED) == "true"


def _build(world: World, spec: NodeImages, names: Names) -> Wait:
    disk = world.disks.get(spec.zone, names.builder)
    machine = world.machines.machine(spec.zone, names.builder)
    lock.hold(world)
    if machine is not None:
        return _watch(world, spec, names, machine, disk)
    if disk is None:
        return _make_disk(world, spec, names, size_gib=_size(world))
    if disk.status != "READY":
        return Wait("disk", disk.name, 300, f"disk {disk.name} to be ready", zone=spec.zone)
    if trees := disk.labels.get(bootdisk.TREES):
        started = world.machines.create_image(
            names.image,
            zone=spec.zone,
            disk=disk.name,
            family=bootdisk.FAMILY,
            labels=names.labels | {bootdisk.TREES: trees, bootdisk.RUN: bootdisk.run_label(world.holder)},
            description=f"layers of {world.release.image} for GKE's container image cache",
            location=spec.location,
        )
        world.log(f"copying disk={disk.name} to image={names.image}")
        return operation(started.name, started.zone, f"image {names.image} to be made", within=1800)
    return _start(world, spec, names, size_gib=disk.size_gib)


def _size(world: World) -> int:
    return bootdisk.size_gib(world.registry.layers(world.release.image).compressed_bytes)


def _make_disk(world: World, spec: NodeImages, names: Names, *, size_gib: int) -> Wait:
    labels = names.labels | {bootdisk.RUN: bootdisk.run_label(world.holder)}
    started = world.machines.create_disk(spec.zone, names.builder, size_gib=size_gib, labels=labels)
    world.log(f"creating disk={names.builder} size_gib={size_gib}")
    return operation(started.name, spec.zone, f"disk {names.builder} to be created")


def _start(world: World, spec: NodeImages, names: Names, *, size_gib: int) -> Wait:
    image = world.release.image
    host = image.partition("/")[0]
    metadata = {
        "startup-script": (world.home / "include" / "builder" / "build.sh").read_text(),
        "enable-guest-attributes": "TRUE",
        "serial-port-logging-enable": "true",
        "llm-release-run": bootdisk.run_label(world.holder),
        "llm-release-images": image,
        "llm-release-auth": "metadata" if spec.service_account and _googles(host) else "none",
        "llm-release-plain-http": str(host in world.cluster.insecure_registries).lower(),
    }
    started = world.machines.create_machine(
        spec.zone,
        Wish(
            name=names.builder,
            kind=spec.machine,
            # containerd's own copy of the layers, packed and unpacked, lies on the boot disk
            boot_gib=BOOT_GIB + 2 * size_gib,
            work_disk=names.builder,
            read_only=False,
            subnetwork=spec.subnetwork,
            service_account=spec.service_account,
            metadata=metadata,
            labels=names.labels
            | {bootdisk.RUN: bootdisk.run_label(world.holder), bootdisk.SIZE: str(size_gib)},
            within=int(spec.build_within),
        ),
    )
    world.log(f"starting machine={names.builder} kind={spec.machine} zone={spec.zone}")
    return operation(started.name, spec.zone, f"machine {names.builder} to start")


def _googles(host: str) -> bool:
    return host.endswith("docker.pkg.dev") or host == "gcr.io" or host.endswith(".gcr.io")


def _watch(world: World, spec: NodeImages, names: Names, machine: Machine, disk: Disk | None) -> Wait:
    """What to do with a machine that is there: wait for its word, and do what follows from it."""
    if disk is None or int(machine.labels.get(bootdisk.SIZE, 0)) < disk.size_gib:
        # Its disk is gone, or was made larger since: another machine must build.
        return _delete_machine(world, spec.zone, names.builder)
    run = machine.labels.get(bootdisk.RUN, "")
    printed, _ = world.machines.serial(spec.zone, names.builder, 0)
    result = bootdisk.result(printed, kind=BUILD, run=run)
    if result is None:
        what = f"machine {names.builder} to build the image"
        return Wait("machine", names.builder, spec.build_within + 300, what, zone=spec.zone)
    if not result.ok:
        return _failed(world, spec, names, result, disk)
    if bootdisk.TREES in disk.labels:
        return _delete_machine(world, spec.zone, names.builder)
    world.log(f"built {' '.join(f'{k}={v}' for k, v in result.fields.items())}")
    labels = {**disk.labels, bootdisk.TREES: result.fields["trees"][: bootdisk.TREES_LENGTH]}
    started = world.disks.label(disk, labels)
    return operation(started.name, spec.zone, f"disk {names.builder} to be labelled")


def _failed(world: World, spec: NodeImages, names: Names, result: Result, disk: Disk) -> Wait:
    twice = 2 * _size(world)
    if result.disk_too_small and disk.size_gib < twice:
        world.log(f"{result.reason}; once more with size_gib={twice}")
        started = world.disks.resize(spec.zone, names.builder, twice)
        return operation(started.name, spec.zone, f"disk {names.builder} to be made larger")
    raise Permanent(
        f"the boot disk for {world.release.image_tag} could not be built, stage {result.fields.get('stage', '?')}:"
        f" {result.reason}.",
        next_action="correct what it names and clear this task, or take node_images out of the cluster's file.",
    )


def _delete_machine(world: World, zone: str, name: str) -> Wait:
    started = world.machines.delete_machine(zone, name)
    if started is None:
        raise Transient(
            f"machine {name} went away while it was looked at.", next_action="the task will try again."
        )
    return operation(started.name, zone, f"machine {name} to be deleted")


def _remove(world: World, spec: NodeImages, names: Names) -> Wait | None:
    """What built the image goes once the image is there."""
    if world.machines.machine(spec.zone, names.builder) is not None:
        return _delete_machine(world, spec.zone, names.builder)
    started = world.disks.delete(spec.zone, names.builder)
    return operation(started.name, spec.zone, f"disk {names.builder} to be deleted") if started else None


def operation(name: str, zone: str, what: str, *, within: float = 300) -> Wait:
    return Wait("operation", name, within, what, zone=zone)
