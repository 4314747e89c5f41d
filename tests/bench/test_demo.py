"""The demo, as a person runs it: real vLLM, three versions, a client that keeps asking."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from llm_release.clients.kubernetes import Kubernetes
from testbench import bench as stack
from testbench import config
from testbench.cluster import nodes
from tests.bench.conftest import NAMESPACE, remove
from tests.bench.tools import until
from tests.conftest import Bench


@pytest.fixture
def alone(kube: Kubernetes) -> Iterator[None]:
    """What the demo leaves serves on nodes of its own: both go, or other tests would count them as theirs."""
    yield
    remove(kube, "gemma")
    until(lambda: kube.pods(NAMESPACE, "llm-release/service=gemma") == (), 60)
    for index in nodes.indexes():
        if index > 1:
            nodes.remove(index, stack.PROCESSES)


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("alone")
def test_every_line_of_the_demo_holds(bench: Bench) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "testbench.demo"], cwd=config.ROOT, capture_output=True, text=True, check=False
    )
    told = json.loads((config.BENCH / "demo.json").read_text())
    broken = [f"{f['claim']}: {f['saw']}" for f in told["findings"] if not f["holds"]]
    assert broken == []
    assert done.returncode == 0, done.stdout[-3000:]
    assert [r["outcome"] for r in told["releases"]] == ["live", "live", "refused", "already live"]
