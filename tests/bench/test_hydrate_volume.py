"""The hydrator on real file systems that are too small or read-only."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_release.clients.hub import Hub
from llm_release.core.exitcodes import Code, Refused
from llm_release.jobs.hydrate.fetch import Policy
from llm_release.jobs.hydrate.run import Request, hydrate
from tests.unit.support.hub import COMMIT
from tests.unit.support.hub import Hub as FakeHub

# The files, and the room that the hydrator asks for its own marker and journal.
NEEDED = (9 << 20) + (1 << 20)
FILES = {f"model-{n}.safetensors": random.Random(n).randbytes(3 << 20) for n in range(3)}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub(FILES) as served:
        yield served


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB; the files have 9."""
    folder = tmp_path / "volume"
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def fill(hub: FakeHub, folder: Path) -> dict[str, object]:
    request = Request(repo="acme/model", commit=COMMIT, dest=folder / "r1", release="r1")
    return hydrate(request, Hub(hub.url), Policy(connections=4))


def test_a_disk_that_is_too_small_is_told_with_both_sizes_and_left_empty(hub: FakeHub, small: Path) -> None:
    with pytest.raises(Refused, match=rf"{NEEDED} bytes are needed, \d+ are free") as e:
        fill(hub, small)
    assert e.value.code is Code.DISK_FULL
    assert list((small / "r1").iterdir()) == []
    assert hub.sent == 0


def test_a_disk_that_promises_more_than_it_has_is_found_out_before_anything_is_fetched(
    hub: FakeHub, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ext4 does, whose own tables grow with the files."""
    true = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: true("/"))
    with pytest.raises(Refused) as e:
        fill(hub, small)
    assert e.value.code is Code.DISK_FULL
    assert list((small / "r1").iterdir()) == []
    assert hub.sent == 0


def test_a_disk_that_was_made_larger_is_filled(hub: FakeHub, small: Path) -> None:
    with pytest.raises(Refused):
        fill(hub, small)
    _mount("-o", "remount,size=16m", str(small))
    fill(hub, small)
    assert {p.name for p in (small / "r1").iterdir()} == {*FILES, ".llm-release.json"}


def test_a_volume_that_is_mounted_read_only_is_told_apart(hub: FakeHub, small: Path) -> None:
    _mount("-o", "remount,ro", str(small))
    with pytest.raises(Refused, match="Read-only file system") as e:
        fill(hub, small)
    assert e.value.code is Code.VOLUME_UNWRITABLE
