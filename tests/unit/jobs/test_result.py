from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_release.core.errors import Conflict, Permanent, ReleaseError, Transient, Unavailable
from llm_release.core.exitcodes import PERMANENT, Code, Refused, code_of
from llm_release.jobs import result

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "message"))
    return tmp_path / "message"


def ended(error: BaseException, message: Path) -> tuple[int, dict[str, Any]]:
    def work() -> dict[str, Any]:
        raise error

    return result.run("x", work), json.loads(message.read_text())


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (Refused(Code.DISK_FULL, "full.", next_action="more."), 15, "permanent"),
        (Permanent("bad.", next_action="x."), 10, "permanent"),
        (Transient("busy.", next_action="x."), 75, "transient"),
        (Unavailable("gone.", next_action="x."), 75, "transient"),
        (Conflict("taken.", next_action="x."), 75, "transient"),
        (ZeroDivisionError("oops"), 70, "transient"),
        (result.Stopped("the job was told to stop (SIGTERM)."), 75, "transient"),
    ],
)
def test_every_error_ends_with_its_exit_code_and_its_words(
    message: Path, error: BaseException, code: int, kind: str
) -> None:
    found, said = ended(error, message)
    assert found == code
    assert said["kind"] == "x"
    assert said["error"]["class"] == kind
    assert said["error"]["code"] == Code(code).label
    assert str(error).split(" Next:")[0] in said["error"]["cause"]
    assert said["error"]["next"]


def test_permanent_codes_are_those_that_the_jobs_manifest_ends_on() -> None:
    text = (ROOT / "include" / "manifests" / "hydrate-job.yaml").read_text()
    assert f"values: [{', '.join(map(str, PERMANENT))}]" in text
    assert {c for c in Code if 10 <= c < 30} == {c for c in Code if c in PERMANENT}
    assert {Code.OK, Code.INTERNAL, Code.TRANSIENT} == {c for c in Code if c not in PERMANENT}


def test_a_secret_is_shown_nowhere(message: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result.keep_secret("hf_" + "VerySecret")
    result.log("token=hf_" + "VerySecret")
    for error in (
        ValueError("Invalid header value b'hf_" + "VerySecret'"),
        Transient("hf_" + "VerySecret", next_action="x"),
    ):
        ended(error, message)
        assert "VerySecret" not in message.read_text()
    captured = capsys.readouterr()
    assert "VerySecret" not in captured.out + captured.err
    assert "***" in captured.out


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.text(max_size=400), max_size=12), st.text(max_size=3000))
def test_no_result_is_longer_than_kubernetes_keeps(message: Path, reasons: list[str], cause: str) -> None:
    assert result.run("x", lambda: {"kind": "x", "verdict": "FAIL", "reasons": reasons}) == 0
    assert len(message.read_bytes()) <= result.LIMIT
    kept = json.loads(message.read_text())["reasons"]
    assert kept == reasons[: len(kept)]
    ended(Transient(cause, next_action="again."), message)
    assert len(message.read_bytes()) <= result.LIMIT


def test_an_error_that_is_not_ours_is_a_bug_of_ours() -> None:
    assert code_of(OSError("x")) is Code.INTERNAL
    assert code_of(ReleaseError("x", next_action="y")) is Code.TRANSIENT
