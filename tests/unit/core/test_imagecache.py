"""Whether a node's secondary boot disk was used, from what kubelet and snapshotter said."""

from __future__ import annotations

import dataclasses

import pytest

from llm_release.core import imagecache
from llm_release.core.coldstart import ColdStart
from llm_release.core.imagecache import Backed

DIGEST = "sha256:" + "d" * 64
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


@pytest.mark.parametrize(
    ("changes", "line", "value", "said"),
    [
        ({}, "", "PASS", "image: the pull took 0.2 s."),
        ({}, WHOLE, "PASS", "image: 27 of 27 layers were on the boot disk, the pull took 0.2 s."),
        ({"image_pull_s": 20.0}, "", "PASS", "image: the pull took 20.0 s."),
        (
            {"image_pull_s": 20.1},
            "",
            "FAIL",
            "image: the pull took 20.1 s, at most 20.0 s wanted of a secondary boot disk.",
        ),
        (
            {"image_pull_s": 300.0},
            WHOLE,
            "FAIL",
            "image: 27 of 27 layers were on the boot disk, the pull took 300.0 s, at most 20.0 s wanted of a"
            " secondary boot disk.",
        ),
        ({}, PART, "FAIL", "image: 20 of 27 layers were on the boot disk (74.1 %), the others were pulled."),
        (
            {"image_pull_s": None, "image_present": True},
            "",
            "PASS",
            "image: it was on the node already, from an earlier pod.",
        ),
        ({"image_pull_s": None, "image_present": True}, PART, "FAIL", "the others were pulled."),
        ({"image_pull_s": None, "image_present": None}, WHOLE, "PASS", "image: 27 of 27 layers"),
        ({"image_pull_s": None, "image_present": None}, "", "INCONCLUSIVE", "image: nobody told"),
        ({"image_pull_s": None}, "", "INCONCLUSIVE", "image: nobody told"),
    ],
)
def test_a_pull_that_fetched_layers_is_told_from_one_that_found_them(
    changes: dict[str, float | None], line: str, value: str, said: str
) -> None:
    start = dataclasses.replace(PULLED, **changes)
    found = imagecache.judge(start, imagecache.backed(line), pull_s=20)
    assert found.value == value
    assert said in found.reasons[0]
