"""The demo, as a person runs it: real vLLM, three versions, a client that keeps asking."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from testbench import config
from tests.conftest import Bench


@pytest.mark.timeout(1200)
def test_every_line_of_the_demo_holds(bench: Bench) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "testbench.demo"], cwd=config.ROOT, capture_output=True, text=True, check=False
    )
    told = json.loads((config.BENCH / "demo.json").read_text())
    broken = [f"{f['claim']}: {f['saw']}" for f in told["findings"] if not f["holds"]]
    assert broken == []
    assert done.returncode == 0, done.stdout[-3000:]
    assert [r["outcome"] for r in told["releases"]] == ["live", "live", "refused", "already live"]
