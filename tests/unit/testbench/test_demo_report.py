"""What the demo counts as written, and what it tells: on records of the real form."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from testbench.demo import starts
from testbench.demo.judge import Finding
from testbench.demo.report import Release, Report
from testbench.demo.writes import _audited, _lines
from testbench.perf.work import length, within

IDENTITY = "system:serviceaccount:bench-system:airflow"


def event(**changes: Any) -> dict[str, Any]:
    return {
        "stage": "ResponseComplete",
        "verb": "patch",
        "requestURI": "/apis/apps/v1/namespaces/llm/deployments/gemma?fieldManager=llm-release",
        "user": {"username": IDENTITY},
        "objectRef": {"resource": "deployments", "namespace": "llm", "name": "gemma"},
        "responseStatus": {"code": 200},
        **changes,
    }


def test_an_accepted_change_is_a_write() -> None:
    assert _audited(event(), IDENTITY) == "patch deployments llm/gemma"


@pytest.mark.parametrize(
    "no_write",
    [
        {"verb": "get"},
        {"user": {"username": "system:kube-scheduler"}},
        {"requestURI": "/apis/apps/v1/namespaces/llm/deployments/gemma?dryRun=All"},
        {"responseStatus": {"code": 409}},
        {"stage": "ResponseStarted"},
        {"verb": "create", "objectRef": {"resource": "selfsubjectaccessreviews"}},
    ],
)
def test_reads_dry_runs_refusals_and_questions_are_none(no_write: dict[str, Any]) -> None:
    assert _audited(event(**no_write), IDENTITY) == ""


def test_a_record_is_read_from_the_mark_to_the_last_whole_line(tmp_path: Path) -> None:
    record = tmp_path / "audit.jsonl"
    record.write_text('{"n": 1}\n{"n": 2}\n{"n": 3}\n{"n": 4')
    assert [line["n"] for line in _lines(record, len('{"n": 1}\n'))] == [2, 3]


def release(name: str) -> Release:
    return Release(
        name=name,
        revision="v1",
        commit="c" * 40,
        id="0123456789",
        run_id="r",
        state="success",
        outcome="live",
        verdict="PASS",
        reason="promoted",
        seconds=81.25,
        phases={"open": 3.0, "stage": 11.5},
        page="http://page",
        record="http://record",
    )


def test_one_broken_claim_breaks_the_whole() -> None:
    report = Report(out=io.StringIO())
    assert not report.held, "no claim is no success"
    report.check("a", "x", True)
    assert report.held
    report.add(Finding("b", "y", False))
    assert not report.held


def test_the_table_lines_up_and_the_file_holds_the_same_facts(tmp_path: Path) -> None:
    out = io.StringIO()
    report = Report(out=out)
    report.chapter("one")
    report.check("claim", "saw", True)
    report.releases += [release("A"), release("B again")]
    report.close()
    report.save(tmp_path / "demo.json")
    lines = [line for line in out.getvalue().splitlines() if "81.2" in line]
    assert [line.index("81.2") for line in lines] == [lines[0].index("81.2")] * 2
    told = json.loads((tmp_path / "demo.json").read_text())
    assert told["held"] is True
    assert told["findings"] == [{"chapter": "one", "claim": "claim", "saw": "saw", "holds": True}]
    assert [r["name"] for r in told["releases"]] == ["A", "B again"]


def kept(pod: str, **seconds: float) -> dict[str, Any]:
    """A pod's entry in cold-start.json, its phases one after the other."""
    at, phases = 100.0, []
    for name, long in seconds.items():
        phases.append({"name": name, "started": at, "ended": at + long, "source": ""})
        at += long
    return {"pod": pod, "ledger": {"started": 100.0, "ended": at + 1, "phases": phases}}


RECORD: dict[str, Any] = {
    "steps": {
        "roll_out.cold_start": {"facts": {"evidence": "gs://b/cold-start.json"}},
        "gate.smoke": {"facts": {"first_token_s": 0.25}},
    }
}


def test_a_release_starts_as_slowly_as_its_slowest_pod() -> None:
    found = starts.read(RECORD, {"pods": [kept("a", image=1), kept("b", image=3), kept("c", image=2)]})
    assert (found.pod, found.total, found.first_token) == ("b", 4, 0.25)
    assert found.attributed == 0.75
    assert starts.evidence(RECORD) == "gs://b/cold-start.json"


@pytest.mark.parametrize("record", [{}, {"steps": {"roll_out.cold_start": {"failure": {}}}}])
def test_a_release_that_did_not_come_so_far_has_no_ledger(record: dict[str, Any]) -> None:
    assert starts.evidence(record) == ""


def test_cold_starts_are_one_table_with_a_row_for_each_phase_in_the_order_of_time(tmp_path: Path) -> None:
    out = io.StringIO()
    report = Report(out=out)
    report.starts["A"] = starts.read(RECORD, {"pods": [kept("a", schedule=1, image=30, ready=2)]})
    report.starts["B"] = starts.read({}, {"pods": [kept("b", schedule=1, start=4, engine=2, ready=2)]})
    report.close()
    report.save(tmp_path / "demo.json")
    text = out.getvalue()
    table = [line.split() for line in text[text.index("Cold starts") :].splitlines()[1:10]]
    assert table == [
        ["phase", "A", "B"],
        ["schedule", "1.0", "1.0"],
        ["start", "-", "4.0"],
        ["engine", "-", "2.0"],
        ["image", "30.0", "-"],
        ["ready", "2.0", "2.0"],
        ["create", "to", "Ready", "34.0", "10.0"],
        ["first", "token", "0.2", "-"],
        ["in", "a", "phase", "97%", "90%"],
    ]
    assert json.loads((tmp_path / "demo.json").read_text())["cold_starts"]["A"]["phases"]["image"] == 30


def test_overlapping_work_counts_once() -> None:
    assert length([(0, 4), (2, 5), (7, 8)]) == 6
    assert length([]) == 0
    assert within([(0, 4), (5, 6), (9, 12)], (2, 10)) == [(2, 4), (5, 6), (9, 10)]
