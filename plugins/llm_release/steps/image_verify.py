"""Proves that a disk image holds what the engine images hold, and labels it so; only then it may be used.

containerd believes a layer's name and reads nothing: from a damaged disk a container starts without a word. A machine
with a disk made from the image reads every layer (include/builder/verify.sh). Machine and disk carry the image's
numeric id: what was said of an earlier image of that name counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from llm_release.clients.machines import BOOT_GIB, Image, Wish
from llm_release.core import bootdisk
from llm_release.core.errors import Permanent, Transient
from llm_release.steps.image_work import Wanted, Work, check_ours
from llm_release.steps.world import Surroundings, Wait

VERIFY = "verify"


def verify(at: Surroundings, wanted: Wanted, made: str, hold: Callable[[], None]) -> Image | Wait:
    """
    Args:
        made: numeric id of the image.
        hold: is called right before anything is changed; raises when this run may not.

    Raises:
        Permanent: the image holds something else than it should; it was deleted.
        Transient: the machine could not look.
    """
    work = Work(at, wanted, hold)
    name = work.names.verifier
    image = at.machines.image(work.names.image)
    if image is None or image.id != made:
        raise Permanent(
            f"disk image {work.names.image} (id {made}) is gone{' and another has its name' if image else ''}.",
            next_action="clear the task that builds it and what follows.",
        )
    check_ours(image, work.names)
    if bootdisk.is_verified(image.labels):
        return work.remove(name) or image
    machine = at.machines.machine(work.zone, name)
    if machine is None:
        return _disk(work, image) or _start(work, image)
    work.check_ours(machine, "machine")
    if waiting := work.over(machine):
        return waiting
    if machine.labels.get(bootdisk.IMAGE_ID) != image.id:
        return work.delete_machine(name)
    result = work.word(machine, VERIFY)
    if result is None:
        what = f"machine {name} to read every layer"
        return Wait("machine", name, bootdisk.verify_within_s(image.size_gib) + 300, what, zone=work.zone)
    if not result.ok:
        work.delete_machine(name)
        raise _refused(work, image, result)
    at.log(f"verified image={image.name} layers={result.fields.get('layers')}")
    labels = {**image.labels, bootdisk.VERIFIED: "true"}
    return work.begin(lambda: at.machines.label_image(image, labels), f"image {image.name} to be labelled")


def _refused(work: Work, image: Image, result: bootdisk.Result) -> Permanent | Transient:
    """Only a disk that was read and found wrong costs the image."""
    if not result.damaged:
        return Transient(
            f"disk image {image.name} could not be verified, stage {result.fields.get('stage', '?')}:"
            f" {result.reason}.",
            next_action="the task will try again.",
        )
    work.at.machines.delete_image(image.name)
    return Permanent(
        f"disk image {image.name} does not hold what {work.wanted.shown} holds: {result.reason};"
        " it was deleted.",
        next_action="clear the task that builds it and what follows: it is built again.",
    )


def _disk(work: Work, image: Image) -> Wait | None:
    """A disk of exactly this image; None when it is there."""
    at, zone, name = work.at, work.zone, work.names.verifier
    disk = at.disks.get(zone, name)
    labels = work.labels | {bootdisk.IMAGE_ID: image.id}
    if disk is None:
        return work.begin(
            lambda: at.machines.create_disk(
                zone, name, size_gib=image.size_gib, labels=labels, image=image.name
            ),
            f"disk {name} to be made from the image",
            exists=lambda: at.disks.get(zone, name),
        )
    work.check_ours(disk, "disk")
    if disk.labels.get(bootdisk.IMAGE_ID) != image.id:
        return work.delete_disk(name)
    if disk.status != "READY":
        return Wait("disk", name, 300, f"disk {name} to be ready", zone=zone)
    return work.adopt(disk)


def _start(work: Work, image: Image) -> Wait:
    spec, registry = work.wanted.spec, work.at.registry
    chains = [c for i in work.wanted.images for c in bootdisk.chain_ids(registry.layers(i).diff_ids)]
    about = {
        "llm-release-chains": " ".join(dict.fromkeys(chains)),
        "llm-release-images": " ".join(work.wanted.images),
        "llm-release-trees": image.labels.get(bootdisk.TREES, ""),
    }
    wish = Wish(
        name=work.names.verifier,
        kind=spec.machine,
        boot_image=spec.boot_image,
        boot_gib=BOOT_GIB,
        work_disk=work.names.verifier,
        read_only=True,
        subnetwork=spec.subnetwork,
        service_account="",
        metadata=work.metadata(VERIFY) | about,
        labels=work.labels | {bootdisk.IMAGE_ID: image.id},
        within=bootdisk.verify_within_s(image.size_gib),
    )
    return work.start(wish)
