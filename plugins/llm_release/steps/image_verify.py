"""Proves that a disk image holds what the engine images hold, and labels it so; only then it may be used.

containerd believes a layer's name and reads nothing: from a damaged disk a container starts without a word. A machine
with a disk made from the image reads every layer (include/builder/verify.sh).
"""

from __future__ import annotations

from collections.abc import Callable

from llm_release.clients.machines import BOOT_GIB, Image, Wish
from llm_release.core import bootdisk
from llm_release.core.bootdisk import Names
from llm_release.core.errors import Conflict, Permanent
from llm_release.steps.image_work import (
    Wanted,
    begun,
    check_ours,
    going,
    is_verified,
    labels_of,
    metadata,
    operation,
    remove,
    soon,
    start,
    word_of,
)
from llm_release.steps.world import Surroundings, Wait

VERIFY = "verify"
_WITHIN_S = 1800


def verify(at: Surroundings, wanted: Wanted, made: str, hold: Callable[[], None]) -> Image | Wait:
    """
    Args:
        made: numeric id of the image.

    Raises:
        Permanent: the image holds something else than it should; it was deleted.
    """
    spec, names = wanted.spec, wanted.names
    image = at.machines.image(names.image)
    if image is None or image.id != made:
        raise Permanent(
            f"disk image {names.image} (id {made}) is gone{' and another has its name' if image else ''}.",
            next_action="clear the task that builds it and what follows.",
        )
    check_ours(image, names)
    if is_verified(image):
        return remove(at, spec, names.verifier) or image
    hold()
    machine = at.machines.machine(spec.zone, names.verifier)
    if machine is None:
        return _start_verifier(at, wanted, names, image)
    if waiting := going(machine):
        return waiting
    result = word_of(at, spec, machine, VERIFY)
    if result is None:
        what = f"machine {names.verifier} to read every layer"
        return Wait("machine", names.verifier, _WITHIN_S + 300, what, zone=spec.zone)
    if not result.ok:
        at.machines.delete_image(image.name)
        raise Permanent(
            f"disk image {image.name} does not hold what {wanted.shown} holds: {result.reason}; it was deleted.",
            next_action="clear the task that builds it and what follows: it is built again.",
        )
    at.log(f"verified image={image.name} layers={result.fields.get('layers')}")
    try:
        started = at.machines.label_image(image, {**image.labels, bootdisk.VERIFIED: "true"})
    except Conflict:  # another run labelled it in between
        return soon(f"image {image.name} to be labelled")
    return operation(started.name, "", f"image {image.name} to be labelled")


def _start_verifier(at: Surroundings, wanted: Wanted, names: Names, image: Image) -> Wait:
    spec = wanted.spec
    disk = at.disks.get(spec.zone, names.verifier)
    if disk is None:
        return begun(
            lambda: at.machines.create_disk(
                spec.zone,
                names.verifier,
                size_gib=image.size_gib,
                labels=labels_of(at, names),
                image=image.name,
            ),
            f"disk {names.verifier} to be made from the image",
            exists=lambda: at.disks.get(spec.zone, names.verifier),
        )
    if disk.status != "READY":
        return Wait("disk", disk.name, 300, f"disk {disk.name} to be ready", zone=spec.zone)
    chains = [c for i in wanted.images for c in bootdisk.chain_ids(at.registry.layers(i).diff_ids)]
    about = {
        "llm-release-chains": " ".join(dict.fromkeys(chains)),
        "llm-release-trees": image.labels.get(bootdisk.TREES, ""),
    }
    wish = Wish(
        name=names.verifier,
        kind=spec.machine,
        boot_gib=BOOT_GIB,
        work_disk=names.verifier,
        read_only=True,
        subnetwork=spec.subnetwork,
        service_account="",
        metadata=metadata(at, VERIFY) | about,
        labels=labels_of(at, names),
        within=_WITHIN_S,
    )
    return start(at, spec, wish)
