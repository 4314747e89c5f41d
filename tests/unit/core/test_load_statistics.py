from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_release.core.load import (
    Client,
    Sample,
    check_client,
    distribution,
    percentile,
    prompt_order,
    schedule,
    summarize,
)

FIT = Client(late_p50=0, late_p99=0, late_max=0, lag_p99=0, lag_max=0, send_s=1)


def sample(at: float = 0.0, **fields: object) -> Sample:
    good = {
        "sent": at,
        "first_token": at + 0.1,
        "last_token": at + 0.5,
        "done": at + 0.6,
        "tokens": 5,
        "status": 200,
    }
    return Sample(**{"scheduled": at, **good, **fields})  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_enough_others_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(sorted(values), share)
    assert found in values
    assert sum(v <= found for v in values) >= share * len(values) - 1e-6
    assert sum(v < found for v in values) < share * len(values) + 1e-6


@pytest.mark.parametrize(
    ("share", "wanted"), [(0.5, 50), (0.9, 90), (0.95, 95), (0.99, 99), (1.0, 100), (0.0, 1)]
)
def test_percentiles_of_one_to_a_hundred_are_themselves(share: float, wanted: int) -> None:
    assert percentile(list(range(1, 101)), share) == wanted


def test_a_distribution_of_nothing_is_nothing_and_not_zero() -> None:
    assert set(distribution([]).values()) == {None}
    assert distribution([1.0, 3.0])["mean"] == 2.0


@given(st.floats(0.1, 500), st.floats(0.1, 100))
def test_constant_arrivals_are_evenly_spaced_and_as_many_as_asked_for(rate: float, duration: float) -> None:
    due = schedule(rate, duration)
    assert len(due) == math.ceil(round(rate * duration, 9))
    assert due[0] == 0.0
    assert all(math.isclose(b - a, 1 / rate, rel_tol=1e-6) for a, b in itertools.pairwise(due))


def test_poisson_arrivals_are_the_same_for_the_same_seed_and_have_exponential_gaps() -> None:
    due = schedule(50, 200, arrivals="poisson", seed=3)
    assert due == schedule(50, 200, arrivals="poisson", seed=3)
    assert due != schedule(50, 200, arrivals="poisson", seed=4)
    gaps = [b - a for a, b in itertools.pairwise(due)]
    assert 0.95 < statistics.stdev(gaps) / statistics.mean(gaps) < 1.05
    assert abs(len(due) - 10_000) < 400
    assert max(due) < 200


@given(st.integers(1, 20), st.integers(0, 200), st.integers())
def test_all_prompts_are_asked_equally_often(prompts: int, requests: int, seed: int) -> None:
    order = prompt_order(prompts, requests, seed=seed)
    counts = [order.count(n) for n in range(prompts)]
    assert len(order) == requests
    assert max(counts) - min(counts) <= 1
    assert order == prompt_order(prompts, requests, seed=seed)


def test_success_is_a_share_of_everything_that_was_offered() -> None:
    samples = [
        sample(0),
        sample(1, error="deadline", first_token=None, last_token=None, tokens=0),
        sample(
            2, error="connect_refused", first_token=None, last_token=None, done=None, status=None, tokens=0
        ),
        sample(3, error="http_503", status=503),
    ]
    found = summarize(samples, FIT)
    assert (found.offered, found.ok, found.success) == (4, 1, 0.25)
    assert found.errors == {"deadline": 1, "connect_refused": 1, "http_503": 1}
    assert found.statuses == {"200": 2, "0": 1, "503": 1}


def test_latencies_run_from_the_scheduled_time_and_are_those_of_good_answers() -> None:
    late = sample(0, sent=2.0, first_token=2.1, last_token=2.5, done=2.6)
    found = summarize([late, sample(5, error="deadline", done=35.0)], FIT)
    assert found.e2e["p95"] is None, "half of the offered requests have no latency"
    assert found.ttft["p50"] == pytest.approx(2.1)
    assert found.e2e["max"] == pytest.approx(2.6)
    assert found.tpot["p50"] == pytest.approx(0.1)


def test_an_answer_of_one_token_has_no_time_per_token() -> None:
    assert summarize([sample(tokens=1)], FIT).tpot["p50"] is None


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from([None, "deadline", "dns"])), max_size=50))
def test_nothing_is_ever_dropped(rows: list[tuple[float, str | None]]) -> None:
    found = summarize([sample(at, error=error) for at, error in rows], FIT)
    assert found.offered == len(rows) == found.ok + sum(found.errors.values())
    assert 0 <= found.success <= 1


def checked(late: list[float], lags: list[float], rate: float = 10.0, due: int | None = None) -> Client:
    times = [n / rate for n in range(len(late))]
    samples = [sample(t, sent=t + x) for t, x in zip(times, late, strict=True)]
    return check_client(samples, lags, rate=rate, due=[n / rate for n in range(due or len(late))])


def test_a_punctual_client_is_valid() -> None:
    found = checked([0.001] * 100, [0.002] * 100)
    assert found.valid
    assert found.late_p99 == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("late", "lags", "due", "problem"),
    [
        ([0.001] * 90 + [0.9] * 10, [0.0], None, "sent late: p99 900 ms"),
        ([0.001] * 100, [0.0] * 50 + [0.5], None, "event loop was late"),
        ([0.001] * 100, [0.0], 120, "100 of 120 requests were sent"),
        ([n * 0.01 for n in range(100)], [0.0], None, "requests a second were sent, 10 were asked for"),
    ],
)
def test_a_client_that_measured_itself_says_so(
    late: list[float], lags: list[float], due: int | None, problem: str
) -> None:
    found = checked(late, lags, due=due)
    assert not found.valid
    assert any(problem in p for p in found.problems), found.problems


def test_a_failed_request_is_slower_than_any_other() -> None:
    answered = [sample(n, first_token=n + 0.1, last_token=n + 0.5, done=n + 1.0) for n in range(91)]
    failed = [sample(n, error="deadline", done=n + 30.0) for n in range(91, 100)]
    found = summarize([*answered, *failed], FIT)
    assert found.e2e["p90"] == pytest.approx(1.0)
    assert found.e2e["p95"] is None
    assert found.e2e["max"] == pytest.approx(1.0)


def test_a_client_without_ports_is_not_the_models_fault() -> None:
    samples = [sample(n / 10, sent=n / 10, error="local_resource" if n % 2 else None) for n in range(100)]
    found = check_client(samples, [0.0], rate=10, due=[n / 10 for n in range(100)])
    assert found.problems == ("50 requests could not be sent: the client ran out of ports or descriptors",)
