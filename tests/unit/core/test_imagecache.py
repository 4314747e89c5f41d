"""Whether a node's secondary boot disk was used, from what kubelet and snapshotter said."""

from __future__ import annotations

import dataclasses

import pytest

from llm_release.core import bootdisk, imagecache, nodeplace
from llm_release.core.coldstart import ColdStart
from llm_release.core.imagecache import Backed

DIGEST = "sha256:" + "d" * 64
IMAGE = bootdisk.Names(DIGEST).image
WHOLE = (
    f"Image us-docker.pkg.dev/acme/llm/vllm@{DIGEST} is backed by secondary boot disk caching by 100.0%"
    " (27/27 layers), by image streaming by 0.0%"
)
PART = WHOLE.replace("100.0% (27/27", "74.1% (20/27").replace("streaming by 0.0%", "streaming by 25.9%")
PULLED = ColdStart(started=0, ended=9, ready=True, phases=(), image_present=False, image_pull_s=0.24)


def test_the_snapshotters_line_is_read() -> None:
    found = imagecache.backed(f"2026/11/21 15:07:30 {WHOLE}")
    assert found == Backed(f"us-docker.pkg.dev/acme/llm/vllm@{DIGEST}", 100.0, 27, 27)
    assert found.whole


@pytest.mark.parametrize(
    "other",
    [
        "",
        "Image x is backed by image streaming",
        WHOLE.replace("27/27", "?/27"),
        WHOLE.replace("100.0%", "all"),
    ],
)
def test_another_line_is_none_of_it(other: str) -> None:
    assert imagecache.backed(other) is None


@pytest.mark.parametrize(
    ("percent", "hits", "layers"), [(74.1, 20, 27), (100, 26, 27), (98.9, 27, 27), (0, 0, 0)]
)
def test_a_disk_that_lacks_anything_is_not_whole(percent: float, hits: int, layers: int) -> None:
    assert not Backed("r", percent, hits, layers).whole


def test_the_last_word_on_the_image_counts_and_other_images_do_not() -> None:
    other = PART.replace("d" * 64, "e" * 64)
    assert imagecache.of_image([PART, "noise", WHOLE, other], DIGEST) == imagecache.backed(WHOLE)
    assert imagecache.of_image([WHOLE, PART], DIGEST) == imagecache.backed(PART)
    assert imagecache.of_image([other], DIGEST) is None


SLOW = "at most 20.0 s wanted of a secondary boot disk"
NO_PROOF = "which proves no secondary boot disk: missing are the snapshotter's line about it and"
FAST = f"image: the pull took 0.2 s, {NO_PROOF}"
BY_LABEL = f"the node's labels say that it has disk {IMAGE}."
GKES, OURS = {bootdisk.NODE_LABEL + IMAGE: "CONTAINER_IMAGE_CACHE.demo"}, {nodeplace.IMAGE: IMAGE}
OTHER = bootdisk.Names("sha256:" + "e" * 64).image
PRESENT = {"image_pull_s": None, "image_present": True}
UNTOLD = {"image_pull_s": None, "image_present": None}
Labels = dict[str, str] | None


def judged(changes: dict[str, float | None], line: str, labels: Labels) -> tuple[str, str]:
    start = dataclasses.replace(PULLED, **changes)
    found = imagecache.judge(start, imagecache.backed(line), labels=labels, image=IMAGE, pull_s=20)
    (said,) = found.reasons
    return found.value, said


@pytest.mark.parametrize("labels", [None, {}, GKES])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "27 of 27 layers were on the boot disk, the pull took 0.2 s."),
        (PRESENT, "27 of 27 layers were on the boot disk, it was on the node already, from an earlier pod."),
        (UNTOLD, "27 of 27 layers were on the boot disk."),
    ],
)
def test_the_snapshotters_word_that_all_layers_were_there_is_proof(
    changes: dict[str, float | None], said: str, labels: Labels
) -> None:
    assert judged(changes, WHOLE, labels) == ("PASS", f"image: {said}")


@pytest.mark.parametrize("labels", [GKES, OURS])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "the pull took 0.2 s"),
        ({"image_pull_s": 20.0}, "the pull took 20.0 s"),
        (PRESENT, "it was on the node already, from an earlier pod"),
    ],
)
def test_a_node_that_has_the_disk_by_its_labels_and_a_fast_pull_are_proof(
    changes: dict[str, float | None], said: str, labels: Labels
) -> None:
    assert judged(changes, "", labels) == ("PASS", f"image: {said}, {BY_LABEL}")


@pytest.mark.parametrize("labels", [None, {}, GKES])
@pytest.mark.parametrize(
    ("changes", "line", "said"),
    [
        ({"image_pull_s": 20.1}, "", f"the pull took 20.1 s, {SLOW}"),
        (
            {"image_pull_s": 300.0},
            WHOLE,
            f"27 of 27 layers were on the boot disk, the pull took 300.0 s, {SLOW}",
        ),
        ({}, PART, "20 of 27 layers were on the boot disk (74.1 %), the others were pulled"),
        (PRESENT, PART, "20 of 27 layers were on the boot disk (74.1 %), the others were pulled"),
    ],
)
def test_a_slow_pull_and_layers_that_were_not_there_fail_whatever_the_node_says(
    changes: dict[str, float | None], line: str, said: str, labels: Labels
) -> None:
    assert judged(changes, line, labels) == ("FAIL", f"image: {said}.")


@pytest.mark.parametrize(
    ("changes", "labels", "said"),
    [
        ({}, {}, f"{FAST} a label of the node that names disk {IMAGE}."),
        ({}, {nodeplace.IMAGE: OTHER, bootdisk.NODE_LABEL + OTHER: "x"}, f"{FAST} a label of the node"),
        ({}, None, f"{FAST} the node's labels."),
        (
            PRESENT,
            {},
            "image: it was on the node already, from an earlier pod, which proves no secondary boot",
        ),
        (
            UNTOLD,
            None,
            "image: nobody told how it came to the node: missing are the snapshotter's line about",
        ),
        (
            UNTOLD,
            GKES,
            "image: nobody told how it came to the node: missing are the snapshotter's line about it.",
        ),
        ({"image_pull_s": None}, GKES, "image: nobody told how it came to the node"),
    ],
)
def test_a_fast_pull_alone_is_no_proof_and_it_is_said_what_is_missing(
    changes: dict[str, float | None], labels: Labels, said: str
) -> None:
    value, found = judged(changes, "", labels)
    assert value == "INCONCLUSIVE"
    assert found.startswith(said)
