"""The background client against real connections: what it calls a failure, a cut, and an answer of which release."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from testbench.demo.client import BackgroundClient, Exchange, Pace
from testbench.demo.exchange import Question
from testbench.demo.judge import Handover, handover
from tests.unit.testbench.pods import Pod, Service

FAST = Pace(rate=60.0, pool=3, limit_s=20.0)


@pytest.fixture
def pods() -> Iterator[tuple[Pod, Pod]]:
    pair = Pod("aaa"), Pod("bbb")
    yield pair
    for pod in pair:
        pod.close()


@pytest.fixture
def service(pods: tuple[Pod, Pod]) -> Iterator[Service]:
    there = Service(pods[0])
    yield there
    there.close()


def client(port: int) -> BackgroundClient:
    return BackgroundClient(
        Question(host="127.0.0.1", port=port, model="m", text="Who?", timeout_s=5), pace=FAST
    )


def run(seconds: float, port: int) -> tuple[Exchange, ...]:
    running = client(port)
    running.start()
    time.sleep(seconds)
    return running.stop()


def test_a_drained_handover_is_seen_as_one(pods: tuple[Pod, Pod], service: Service) -> None:
    old, new = pods
    running = client(service.port)
    running.start()
    time.sleep(0.5)
    switched_at = time.time()
    service.pod = new
    time.sleep(0.5)
    old.stopping = True
    time.sleep(0.3)
    service.cut(old)
    drained_at = time.time()
    time.sleep(0.5)
    record = running.stop()
    change = Handover(old="aaa", new="bbb", switched_at=switched_at, drained_at=drained_at)
    assert [f for f in handover(record, change) if not f.holds] == []
    assert {e.cut for e in record if e.slot is not None} == {"", "closed"}
    during = {e.release for e in record if e.slot is not None and switched_at < e.sent < switched_at + 0.4}
    assert during == {"aaa"}, "a busy pooled connection must stay on the old pod"


def test_a_killed_pod_cuts_the_pool_and_the_request_is_sent_again(
    pods: tuple[Pod, Pod], service: Service
) -> None:
    running = client(service.port)
    running.start()
    time.sleep(0.4)
    service.pod = pods[1]
    service.cut(pods[0])
    time.sleep(0.4)
    record = running.stop()
    cuts = [e for e in record if e.cut == "reset" and e.ok]
    assert {e.slot for e in cuts} <= {0, 1, 2}
    assert cuts, "an idle pooled connection was cut"
    assert {e.release for e in cuts} == {"bbb"}


def test_an_engine_that_stops_before_its_server_cuts_by_refusing(
    pods: tuple[Pod, Pod], service: Service
) -> None:
    running = client(service.port)
    running.start()
    time.sleep(0.4)
    service.pod = pods[1]
    pods[0].broken = True
    time.sleep(0.4)
    record = running.stop()
    cuts = [e for e in record if e.cut]
    assert {e.cut for e in cuts} == {"refused"}
    assert len(cuts) == FAST.pool, "once for each pooled connection, and then it has moved"
    assert all(e.ok and e.release == "bbb" for e in cuts)


def test_half_of_the_requests_have_a_connection_of_their_own(service: Service) -> None:
    record = run(0.5, service.port)
    own = [e for e in record if e.slot is None]
    pooled = [e for e in record if e.slot is not None]
    assert abs(len(own) - len(pooled)) <= 1
    assert len({e.connection for e in own}) == len(own)
    assert len({e.connection for e in pooled}) == FAST.pool
    assert all(e.ok and e.release == "aaa" and e.text == "I am aaa." for e in record)


def test_nobody_listening_is_a_failure_of_both_kinds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    record = run(0.2, port)
    assert {e.slot is None for e in record} == {True, False}
    assert not any(e.ok for e in record)


def test_an_error_answer_is_a_failure() -> None:
    pod = Pod("aaa", status=503)
    record = run(0.2, pod.port)
    pod.close()
    assert record
    assert all("503" in e.error for e in record)


def test_it_stops_by_itself(service: Service) -> None:
    brief = BackgroundClient(
        Question(host="127.0.0.1", port=service.port, model="m", text="Who?"),
        pace=Pace(rate=50.0, limit_s=0.2),
    )
    brief.start()
    time.sleep(0.6)
    assert len(brief.exchanges) == 10
    brief.stop()


@pytest.mark.parametrize("host", ["8.8.8.8", "192.168.1.1", "10.1.2.3"])
def test_only_the_bench_is_ever_asked(host: str) -> None:
    with pytest.raises(ValueError, match="not an address of the bench"):
        BackgroundClient(Question(host=host, port=80, model="m", text="?"))
