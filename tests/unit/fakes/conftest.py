"""A fake of Google's APIs in this process, and the real clients pointed at it with real credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.fakes.google_apis import GoogleApis


@pytest.fixture
def google(tmp_path: Path) -> Iterator[GoogleApis]:
    running = GoogleApis(tmp_path)
    running.start()
    yield running
    running.stop()
