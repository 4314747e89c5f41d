"""A journal whose volume takes no more says so as every other write does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_release.core.exitcodes import Code, Refused
from llm_release.jobs.hydrate.journal import Journal


@pytest.fixture
def full() -> Iterator[Journal]:
    journal = Journal(Path("/dev/full"))
    yield journal
    journal.close()


def test_every_record_that_does_not_fit_is_a_full_disk_and_names_the_volume(full: Journal) -> None:
    for write in (lambda: full.wrote(0, 0, 1), lambda: full.reset(0), lambda: full.synced(0, 0)):
        with pytest.raises(Refused, match="the volume at /dev is full: No space left on device") as e:
            write()
        assert e.value.code is Code.DISK_FULL
