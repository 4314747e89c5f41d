"""Secondary boot disks: names, sizes, layers, and what a machine's serial port says about its end."""

from __future__ import annotations

import pytest

from llm_release.core import bootdisk
from llm_release.core.bootdisk import Names

DIGEST = "sha256:" + "0123456789abcdef" * 4
PREFIX = "[   15.600000] google_metadata_script_runner[841]: startup-script: "


def test_an_image_name_fits_the_node_label_that_gke_makes_of_it() -> None:
    assert len(f"gke-secondary-boot-disk-{Names(DIGEST).image}") <= 63
    assert Names(DIGEST).image != Names("sha256:" + "f" * 64).image


def test_every_label_value_fits() -> None:
    labels = Names(DIGEST).labels | {bootdisk.RUN: bootdisk.run_label("release__gemma/" + "x" * 250)}
    assert all(len(v) <= 63 and v == v.lower() for v in labels.values())


def test_two_runs_have_two_labels() -> None:
    assert bootdisk.run_label("release__a/1") != bootdisk.run_label("release__a/2")


def test_a_disk_has_room_for_the_unpacked_layers() -> None:
    assert bootdisk.size_gib(1) == bootdisk.MIN_GIB
    assert bootdisk.size_gib(9 * bootdisk.GIB) == 26


def test_chain_ids_are_those_of_the_image_spec() -> None:
    # computed with sha256sum by hand: printf 'sha256:a sha256:b' | sha256sum
    assert bootdisk.chain_ids(["sha256:a", "sha256:b"]) == (
        "sha256:a",
        "sha256:970a948bffa8de94d6e22d747ba8c95030e6e546909f98f54e99a13005e173a8",
    )
    assert bootdisk.chain_ids([]) == ()


def test_a_build_that_ended_well_tells_what_it_made() -> None:
    printed = f"{PREFIX}llm-release-build[r1]: RESULT=SUCCESS layers=4 used_kib=663 trees=ab12\r\nlater\r\n"
    found = bootdisk.result(printed, kind="build", run="r1")
    assert found is not None
    assert found.ok
    assert found.fields == {"layers": "4", "used_kib": "663", "trees": "ab12"}


def test_a_failure_tells_its_reason_in_words() -> None:
    said = "RESULT=FAILURE stage=plan code=1 line=77 reason=disk too small: 5 KiB and 5 % are needed, 4 KiB are free"
    found = bootdisk.result(f"{PREFIX}llm-release-build[r1]: {said}\r\n", kind="build", run="r1")
    assert found is not None
    assert not found.ok
    assert found.fields["stage"] == "plan"
    assert found.reason == "disk too small: 5 KiB and 5 % are needed, 4 KiB are free"
    assert found.disk_too_small


@pytest.mark.parametrize(
    "printed",
    ["", "RESULT=SUCCESS", "llm-release-build[r2]: RESULT=SUCCESS", "llm-release-verify[r1]: RESULT=SUCCESS"],
)
def test_what_another_run_or_another_script_said_is_no_result(printed: str) -> None:
    assert bootdisk.result(printed, kind="build", run="r1") is None
