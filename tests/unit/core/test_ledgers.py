"""The cold starts of a release against its gate, and as a table."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import pytest

from llm_release.core import ledgers, strict
from llm_release.core.coldstart import ColdStart, Phase
from llm_release.core.ledgers import Ledgers, PodStart
from llm_release.core.spec import ColdStartGate, Seconds
from llm_release.core.verdict import Verdict


def start(pod: str = "p", image: Verdict | None = None, **seconds: float) -> PodStart:
    ends = list(itertools.accumulate(seconds.values()))
    phases = tuple(Phase(n, b - s, b, "") for (n, s), b in zip(seconds.items(), ends, strict=True))
    ledger = ColdStart(started=0, ended=ends[-1], ready=True, phases=phases)
    return PodStart(pod=pod, node="n1", ledger=ledger, image=image)


def of(*pods: PodStart) -> Ledgers:
    return Ledgers(release="r", pods=pods)


def gate(**fields: Any) -> ColdStartGate:
    return ColdStartGate(**fields)


def test_the_document_survives_being_stored() -> None:
    kept = of(start(image=Verdict("FAIL", ("image: late",)), image_phase=1.5), start("q", weights=2))
    assert strict.decode(Ledgers, json.loads(json.dumps(strict.encode(kept)))) == kept


def test_a_document_of_another_schema_is_refused() -> None:
    with pytest.raises(strict.Invalid, match="schema: 'cold-start/v2' is not one of"):
        strict.decode(Ledgers, {"schema": "cold-start/v2", "release": "r", "pods": []})


def test_without_a_budget_and_with_nothing_to_compare_all_is_well() -> None:
    found = ledgers.judge(of(start(weights=999)), None, gate(), without="there was none")
    assert found == ledgers.Judged("PASS", ("there was none",))
    assert (
        ledgers.judge(of(start(weights=999)), None, gate(regression="off"), without="there was none").reasons
        == ()
    )


@pytest.mark.parametrize(("budget", "outcome"), [(100, "PASS"), (99.5, "FAIL")])
def test_the_slowest_pod_is_held_to_the_budget(budget: float, outcome: str) -> None:
    pods = (start("fast", weights=40), start("slow", weights=100), start("middle", weights=60))
    found = ledgers.judge(of(*pods), None, gate(budget=Seconds(budget)))
    assert found.outcome == outcome
    assert found.reasons[0].startswith("cold start: 100 s, at most")


def test_a_start_that_cannot_be_judged_is_a_warning() -> None:
    pod = start(weights=40)
    unready = dataclasses.replace(pod, ledger=dataclasses.replace(pod.ledger, ready=False))
    assert ledgers.judge(of(unready), None, gate(budget=Seconds(100))).outcome == "WARN"
    assert ledgers.judge(of(unready), of(pod), gate(regression="fail")).outcome == "WARN"


@pytest.mark.parametrize(("regression", "outcome"), [("warn", "WARN"), ("fail", "FAIL"), ("off", "PASS")])
def test_a_slower_start_means_what_the_spec_says(regression: str, outcome: str) -> None:
    found = ledgers.judge(of(start(weights=65)), of(start(weights=40)), gate(regression=regression))
    assert found.outcome == outcome
    assert bool(found.reasons) == (regression != "off")


def test_the_slowest_pods_of_both_releases_are_compared() -> None:
    last = of(start("a", weights=60), start("b", weights=20))
    now = of(start("c", weights=20), start("d", weights=61))
    assert ledgers.judge(now, last, gate(regression="fail")).outcome == "PASS"
    assert ledgers.judge(now, of(start("b", weights=20)), gate(regression="fail")).outcome == "FAIL"


@pytest.mark.parametrize(
    ("told", "image_cache", "outcome"),
    [
        ("PASS", "fail", "PASS"),
        ("FAIL", "warn", "WARN"),
        ("FAIL", "fail", "FAIL"),
        ("INCONCLUSIVE", "fail", "WARN"),
    ],
)
def test_one_pod_whose_boot_disk_was_not_used_is_enough(told: Any, image_cache: str, outcome: str) -> None:
    pods = (
        start("a", Verdict("PASS", ("image: good.",)), weights=1),
        start("b", Verdict(told, ("image: x.",)), weights=1),
    )
    found = ledgers.judge(of(*pods), None, gate(image_cache=image_cache))
    assert found.outcome == outcome
    assert set(found.reasons) == {"a: image: good.", "b: image: x."}


def test_the_reason_that_refuses_comes_first() -> None:
    pod = start(image=Verdict("FAIL", ("image: late.",)), weights=65)
    found = ledgers.judge(of(pod), of(start(weights=40)), gate(budget=Seconds(100), image_cache="fail"))
    assert found.outcome == "FAIL"
    assert [r.split()[0] for r in found.reasons] == ["p:", "cold", "cold", "cold"]
    assert "at most 100 s wanted" in found.reasons[-1]


def test_the_table_has_a_row_for_each_phase_that_somebody_has_in_the_order_of_time() -> None:
    restarted = start("q", restarts=7, ready=1)
    gap = dataclasses.replace(restarted.ledger, ended=10)
    assert ledgers.table({"a": start(schedule=1.25, start=2, weights=30).ledger, "long-name": gap}) == [
        "seconds         a  long-name",
        "schedule      1.2          -",
        "start         2.0          -",
        "restarts        -        7.0",
        "weights      30.0          -",
        "ready           -        1.0",
        "in no phase   0.0        2.0",
        "total        33.2       10.0",
        "attributed   100%        80%",
    ]
