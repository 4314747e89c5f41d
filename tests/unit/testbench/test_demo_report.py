"""What the demo counts as written, and what it tells: on records of the real form."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

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


def test_overlapping_work_counts_once() -> None:
    assert length([(0, 4), (2, 5), (7, 8)]) == 6
    assert length([]) == 0
    assert within([(0, 4), (5, 6), (9, 12)], (2, 10)) == [(2, 4), (5, 6), (9, 10)]
