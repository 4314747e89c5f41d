"""The bench as a fixture: started when the first test that is marked `bench` comes up, ended after the last.

A bench that runs already is used and left running. A bench that cannot start fails those tests; it never
skips them, and under --require-bench a skip of one is a failure too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from testbench import bench as cluster
from testbench import config
from testbench.airflow import credentials, stack
from testbench.airflow.client import Airflow
from testbench.airflow.settings import PATHS, URL

TICK_S = 0.1


@dataclass(slots=True)
class Lifecycle:
    """Whether the bench was asked for, and what this session must end again."""

    tried: bool = False
    problem: str = ""
    started: list[str] = field(default_factory=list)

    def ensure(self) -> None:
        if self.tried:
            return
        self.tried = True
        try:
            if not cluster.running():
                self.started.append("bench")
            cluster.up()
            if not stack.status().up:
                self.started.append("airflow")
                stack.up(tick_s=TICK_S)
        except (RuntimeError, OSError) as e:
            self.problem = str(e)

    def end(self) -> None:
        if "airflow" in self.started:
            stack.down(purge="bench" in self.started)
        if "bench" in self.started:
            cluster.down()


LIFECYCLE = Lifecycle()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A running bench as tests use it."""

    root: Path
    kubeconfig: Path
    admin: Airflow
    viewer: Airflow


@pytest.fixture(scope="session")
def bench() -> Bench:
    """The running bench: cluster, fakes and Airflow."""
    if LIFECYCLE.problem:
        pytest.fail(f"the bench did not start: {LIFECYCLE.problem}")
    users = {u: Airflow(url=URL, user=u, password=credentials.password(PATHS, u)) for u in ("alice", "bob")}
    return Bench(root=config.ROOT, kubeconfig=config.KUBECONFIG, admin=users["alice"], viewer=users["bob"])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-bench", action="store_true", help="a bench test that is skipped fails")


# Round the whole protocol of a test and not in a fixture: a cold start takes half an hour, and the time
# limit of a single test must not count it.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("bench") and not LIFECYCLE.tried:
        capture = item.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print()
            LIFECYCLE.ensure()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    required = item.config.getoption("--require-bench") and item.get_closest_marker("bench")
    if required and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but the bench is required: {report.longrepr}"
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        LIFECYCLE.end()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below tests/bench needs the bench, said or not."""
    for item in items:
        if (config.ROOT / "tests" / "bench") in item.path.parents:
            item.add_marker(pytest.mark.bench)
