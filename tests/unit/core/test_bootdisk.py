"""Secondary boot disks: names, sizes, layers, and what a machine's serial port says about its end."""

from __future__ import annotations

import pytest

from llm_release.core import bootdisk
from llm_release.core.bootdisk import Names, Result

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


@pytest.mark.parametrize(
    "reason",
    [
        "disk too small: 5 KiB and 5 % are needed, 4 KiB are free",
        "layer sha256:1 could not be copied: cp: error writing '/mnt/x': No space left on device",
        "x could not be pulled: failed to extract layer: write /var/lib/x: no space left on device",
    ],
)
def test_a_full_disk_is_told_by_whoever_meets_it(reason: str) -> None:
    assert Result(ok=False, fields={}, reason=reason).disk_too_small


def test_a_line_that_is_half_printed_is_no_result() -> None:
    whole = f"{PREFIX}llm-release-build[r1]: RESULT=SUCCESS layers=4 trees={'a' * 64}"
    for length in range(len(whole)):
        assert bootdisk.result(whole[:length], kind="build", run="r1") is None
    assert bootdisk.result(whole + "\r\n", kind="build", run="r1") is not None


def test_the_guest_attribute_says_what_the_serial_port_says() -> None:
    said = bootdisk.spoken(f"r1 SUCCESS layers=4 trees={'a' * 64}", kind="build")
    found = bootdisk.result(said, kind="build", run="r1")
    assert found is not None
    assert bootdisk.trees(found) == "a" * bootdisk.TREES_LENGTH
    assert bootdisk.result(bootdisk.spoken("", kind="build"), kind="build", run="") is None


@pytest.mark.parametrize("said", ["", "trees=ab", f"trees={'g' * 64}"])
def test_a_build_that_tells_no_hash_has_made_nothing(said: str) -> None:
    found = bootdisk.result(f"llm-release-build[r1]: RESULT=SUCCESS {said}\n", kind="build", run="r1")
    assert found is not None
    assert bootdisk.trees(found) is None


def test_only_a_disk_that_was_read_is_called_damaged() -> None:
    def damaged(words: str) -> bool:
        found = bootdisk.result(f"llm-release-verify[r1]: RESULT=FAILURE {words}\n", kind="verify", run="r1")
        assert found is not None
        return found.damaged

    assert damaged("stage=layers verdict=damaged code=1 line=9 reason=layer x is damaged")
    assert not damaged("stage=disk verdict=none code=1 line=9 reason=there is no disk")
    assert not damaged("stage=layers verdict=none code=143 line=9 reason=verdict=damaged")
    assert not bootdisk.NO_WORD.damaged


def test_a_large_disk_has_more_time_to_be_read() -> None:
    assert bootdisk.verify_within_s(10) == 1800
    assert bootdisk.verify_within_s(1000) > 4 * 3600
