"""Proves that a secondary boot disk holds what the engine's image holds, and labels it so; only then it may be used.

containerd believes a layer's name and reads nothing: from a damaged disk a container starts without a word. A machine
with a disk made from the image reads every layer (include/builder/verify.sh).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_release.clients.machines import BOOT_GIB, Image, Machine, Wish
from llm_release.core import bootdisk
from llm_release.core.bootdisk import Names, Result
from llm_release.core.errors import Permanent
from llm_release.core.spec import NodeImages
from llm_release.steps import lock
from llm_release.steps.node_image import NodeImage, check_ours, names_of, operation, settings
from llm_release.steps.world import Wait, World

VERIFY = "verify"
_WITHIN_S = 1800


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    STEP: ClassVar[str] = "stage.verify_image"
    image: str
    id: str


def run(world: World) -> VerifiedImage | Wait:
    """
    Raises:
        Skipped: the cluster has no secondary boot disks.
        Permanent: the image holds something else than it should; it was deleted.
    """
    spec, names = settings(world), names_of(world)
    made = world.of(NodeImage)
    image = world.machines.image(names.image)
    if image is None or image.id != made.id:
        raise Permanent(
            f"disk image {names.image} (id {made.id}) is gone{' and another has its name' if image else ''}.",
            next_action="clear stage.node_image and what follows it.",
        )
    check_ours(image, names)
    machine = world.machines.machine(spec.zone, names.verifier)
    if image.labels.get(bootdisk.VERIFIED) == "true":
        return _remove(world, spec, names, machine) or VerifiedImage(image.name, image.id)
    lock.hold(world)
    if machine is None:
        return _start(world, spec, names, image)
    printed, _ = world.machines.serial(spec.zone, names.verifier, 0)
    result = bootdisk.result(printed, kind=VERIFY, run=machine.labels.get(bootdisk.RUN, ""))
    if result is None:
        what = f"machine {names.verifier} to read every layer"
        return Wait("machine", names.verifier, _WITHIN_S + 300, what, zone=spec.zone)
    if not result.ok:
        raise _refused(world, image, result)
    world.log(f"verified image={image.name} layers={result.fields.get('layers')}")
    started = world.machines.label_image(image, {**image.labels, bootdisk.VERIFIED: "true"})
    return operation(started.name, "", f"image {image.name} to be labelled")


def _start(world: World, spec: NodeImages, names: Names, image: Image) -> Wait:
    labels = names.labels | {bootdisk.RUN: bootdisk.run_label(world.holder)}
    if world.disks.get(spec.zone, names.verifier) is None:
        started = world.machines.create_disk(
            spec.zone, names.verifier, size_gib=image.size_gib, labels=labels, image=image.name
        )
        return operation(started.name, spec.zone, f"disk {names.verifier} to be made from the image")
    chains = bootdisk.chain_ids(world.registry.layers(world.release.image).diff_ids)
    metadata = {
        "startup-script": (world.home / "include" / "builder" / "verify.sh").read_text(),
        "enable-guest-attributes": "TRUE",
        "serial-port-logging-enable": "true",
        "llm-release-run": bootdisk.run_label(world.holder),
        "llm-release-chains": " ".join(chains),
        "llm-release-trees": image.labels.get(bootdisk.TREES, ""),
    }
    started = world.machines.create_machine(
        spec.zone,
        Wish(
            name=names.verifier,
            kind=spec.machine,
            boot_gib=BOOT_GIB,
            work_disk=names.verifier,
            read_only=True,
            subnetwork=spec.subnetwork,
            service_account="",
            metadata=metadata,
            labels=labels,
            within=_WITHIN_S,
        ),
    )
    return operation(started.name, spec.zone, f"machine {names.verifier} to start")


def _refused(world: World, image: Image, result: Result) -> Permanent:
    world.machines.delete_image(image.name)
    return Permanent(
        f"disk image {image.name} does not hold what {world.release.image_tag} holds: {result.reason};"
        " it was deleted.",
        next_action="clear stage.node_image and what follows it: it is built again.",
    )


def _remove(world: World, spec: NodeImages, names: Names, machine: Machine | None) -> Wait | None:
    if machine is not None and (started := world.machines.delete_machine(spec.zone, names.verifier)):
        return operation(started.name, spec.zone, f"machine {names.verifier} to be deleted")
    gone = world.disks.delete(spec.zone, names.verifier)
    return operation(gone.name, spec.zone, f"disk {names.verifier} to be deleted") if gone else None
