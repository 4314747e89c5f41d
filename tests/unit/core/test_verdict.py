"""Only PASS promotes; a measurement that is at fault says nothing about the model."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from llm_release.core import verdict
from llm_release.core.spec import LoadSlo, Seconds
from llm_release.core.verdict import LoadFacts, SmokeFacts, Verdict

GOOD = LoadFacts(
    offered=100, ok=100, errors={}, ttft_ms={"p95": 300.0}, e2e_ms={"p95": 900.0}, valid=True, reasons=()
)
SLO = LoadSlo(success=0.99, ttft_p95=Seconds(2), e2e_p95=Seconds(5))


def changed(**fields: object) -> LoadFacts:
    return dataclasses.replace(GOOD, **fields)  # type: ignore[arg-type]


def test_a_load_within_its_bounds_passes() -> None:
    assert verdict.load(GOOD, SLO).value == "PASS"


@pytest.mark.parametrize(
    ("facts", "value", "said"),
    [
        (
            changed(ok=98, errors={"timeout": 2}),
            "FAIL",
            "98.00% of 100 requests succeeded, 99.00% wanted; most errors: timeout",
        ),
        (changed(e2e_ms={"p95": 5001.0}), "FAIL", "end-to-end p95 is 5001 ms, at most 5000 ms wanted"),
        (
            changed(ttft_ms={"p95": None}),
            "INCONCLUSIVE",
            "time to first token p95 was asked for and not measured",
        ),
        (
            changed(ok=0, errors={"timeout": 100}, ttft_ms={"p95": None}, e2e_ms={"p95": None}),
            "FAIL",
            "0.00% of 100 requests succeeded",
        ),
        (
            changed(valid=False, ok=0, reasons=("client was 80 ms late at p99",)),
            "INVALID",
            "client was 80 ms late",
        ),
        (changed(offered=0, ok=0), "INVALID", "nothing was offered"),
    ],
)
def test_each_way_not_to_pass_has_its_value_and_its_reason(facts: LoadFacts, value: str, said: str) -> None:
    found = verdict.load(facts, SLO)
    assert found.value == value
    assert said in found.reasons[0]


def test_smoke_counts_what_is_wrong_and_names_the_first() -> None:
    found = verdict.smoke(SmokeFacts("FAIL", 3, 5, ("capital: never stopped", "sum: empty")))
    assert found.value == "FAIL"
    assert found.reasons[0] == "smoke: 2 of 5 answers are wrong. First: capital: never stopped"


def test_no_prompt_at_all_is_no_pass() -> None:
    assert verdict.smoke(SmokeFacts("PASS", 0, 0, ())).value == "INVALID"


def test_together_the_worst_decides_whatever_the_order() -> None:
    parts = [Verdict("PASS", ("a",)), Verdict("FAIL", ("b",)), Verdict("INVALID", ("c",))]
    for order in itertools.permutations(parts):
        found = verdict.together(order)
        assert found.value == "FAIL"
        assert found.reasons[0] == "b"


def test_no_verdict_is_no_pass() -> None:
    assert verdict.together(()).value == "INCONCLUSIVE"


def test_a_percentile_that_falls_on_failed_requests_breaks_its_bound() -> None:
    found = verdict.load(
        changed(ok=91, errors={"deadline": 9}, e2e_ms={"p95": None}), LoadSlo(success=0.9, e2e_p95=Seconds(5))
    )
    assert found.value == "FAIL"
    assert "end-to-end p95 falls on a request that failed" in found.reasons[0]
