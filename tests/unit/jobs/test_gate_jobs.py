"""The smoke, load and access jobs as Kubernetes runs them: processes with a result and an exit code."""

from __future__ import annotations

import json
import signal
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_release.clients import store
from llm_release.core.exitcodes import Code
from llm_release.jobs import evidence
from tests.unit.support.engine import Engine, Reply
from tests.unit.support.gcs import gcs as gcs
from tests.unit.support.hub import COMMIT, GOOD_TOKEN, OTHER_TOKEN
from tests.unit.support.hub import Hub as FaultyHub
from tests.unit.support.jobs import Job

PROMPTS = """
prompts:
  - {name: capital, messages: [{role: user, content: "Capital of Japan?"}], must_contain: [Tokyo]}
  - {name: sum, prompt: "2 + 2 =", must_match: '\\b4\\b'}
"""


@pytest.fixture
def engine() -> Iterator[Engine]:
    def right(asked: dict[str, Any]) -> Reply:
        return Reply("It is Tokyo ." if "messages" in asked else "4 .")

    with Engine(default=right) as served:
        yield served


class Gate:
    """The gate jobs against an engine."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.jobs = {n: Job(n, folder, monkeypatch, capsys) for n in ("smoke", "load", "access")}
        self.prompts = folder / "prompts.yaml"
        self.prompts.write_text(PROMPTS)

    def run(self, name: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
        job = self.jobs[name]
        code, output = job.run(*arguments)
        said = next(line for line in output.splitlines() if line.startswith("result "))
        assert json.loads(said.removeprefix("result ")) == job.result
        assert len(job.message.read_bytes()) < 4000
        return code, job.result, output

    def smoke(self, url: str, *more: str) -> tuple[int, dict[str, Any], str]:
        return self.run("smoke", *self.asked(url), "--timeout", "3", *more)

    def load(self, url: str, *more: str) -> tuple[int, dict[str, Any], str]:
        return self.run("load", *self.plan(url, rate="100", duration="0.4"), *more)

    def asked(self, url: str) -> list[str]:
        return ["--url", url, "--model", "m", "--prompts", str(self.prompts)]

    def plan(self, url: str, *, rate: str, duration: str) -> list[str]:
        return [*self.asked(url), "--rate", rate, "--duration", duration, "--timeout", "0.7", "--seed", "1"]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Gate:
    return Gate(tmp_path, monkeypatch, capsys)


def test_right_answers_pass(job: Gate, engine: Engine) -> None:
    code, result, _ = job.smoke(engine.url)
    assert code == 0
    assert 0 < result.pop("first_token_s") < 3
    assert result == {
        "kind": "smoke",
        "verdict": "PASS",
        "passed": 2,
        "total": 2,
        "reasons": [],
        "stored": False,
    }
    assert len(engine.asked) == 4, "two calls warm up and are not judged"


def test_a_wrong_answer_is_a_measurement_and_not_a_failed_job(job: Gate, engine: Engine) -> None:
    engine.default = Reply("Kyoto 4 .")
    code, result, _ = job.smoke(engine.url)
    assert (code, result["verdict"], result["passed"]) == (0, "FAIL", 1)
    assert "capital: does not contain 'Tokyo'" in result["reasons"][0]


def test_errors_of_the_warm_up_are_not_judged(job: Gate, engine: Engine) -> None:
    engine.replies = deque([Reply(status=500), Reply(status=503)])
    result = job.smoke(engine.url)[1]
    assert (result["verdict"], result["first_token_s"]) == ("PASS", None)


def test_the_time_to_the_first_token_is_that_of_the_very_first_question(job: Gate, engine: Engine) -> None:
    engine.replies = deque([Reply(first_s=0.3, gap_s=0.1)])
    assert 0.3 <= job.smoke(engine.url)[1]["first_token_s"] < 0.6


def test_an_engine_that_nobody_reaches_is_an_invalid_measurement(job: Gate) -> None:
    code, result, _ = job.smoke("http://127.0.0.1:1", "--reach", "0.5")
    assert (code, result["verdict"], result["passed"]) == (0, "INVALID", 0)
    assert result["first_token_s"] is None
    assert "cannot be reached" in result["reasons"][0]


def test_many_long_reasons_still_fit_into_the_message(job: Gate, engine: Engine) -> None:
    one = {"prompt": "x", "must_contain": ["y" * 400] * 5}
    job.prompts.write_text(json.dumps({"prompts": [{"name": f"p{n}", **one} for n in range(20)]}))
    assert job.smoke(engine.url)[1]["verdict"] == "FAIL"


@pytest.mark.parametrize("text", ["prompts: [", "prompts: [{name: a}]", "\x00", "prompts:"])
def test_a_prompts_file_that_is_wrong_is_told(job: Gate, text: str) -> None:
    job.prompts.write_text(text)
    code, result, _ = job.smoke("http://127.0.0.1:1")
    assert code == Code.BAD_INPUT
    assert "prompts" in result["error"]["cause"]


def test_a_store_that_is_not_there_costs_the_copy_and_not_the_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setattr(evidence, "_STORE_S", 0.3)
    assert not evidence.keep({"answers": ["Tokyo"]}, "gs://bucket/smoke.json")
    said = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("evidence "))
    assert json.loads(said.removeprefix("evidence ")) == {"answers": ["Tokyo"]}


def test_the_full_result_goes_to_the_store(job: Gate, engine: Engine, gcs: str) -> None:
    job.jobs["load"].environment["STORAGE_EMULATOR_HOST"] = gcs
    code, result, output = job.load(engine.url, "--output", "gs://llm-releases/r/load/result.json")
    assert (code, result["stored"]) == (0, True), output
    kept = store.Store("llm-releases", "r", store.connect(gcs)).read_text("load/result.json")
    assert kept is not None
    document = json.loads(kept[0])
    assert document["schema"] == "loadtest.result/v1"
    assert document["arms"]["candidate"]["counts"]["ok"] == result["ok"] == 40
    assert sum(second["sent"] for second in document["arms"]["candidate"]["timeseries"]) == 40


def test_an_offered_load_is_answered_and_counted(job: Gate, engine: Engine) -> None:
    code, result, output = job.load(engine.url)
    assert code == 0, output
    assert (result["offered"], result["ok"], result["success"], result["errors"]) == (40, 40, 1.0, {})
    assert result["ttft_ms"]["p95"] <= result["e2e_ms"]["p95"]
    assert result["late_ms_p99"] >= 0
    assert len(engine.asked) == 41, "one call warms up and is not counted"


def test_poisson_arrivals_are_decided_by_the_seed(job: Gate, engine: Engine) -> None:
    offered = {job.load(engine.url, "--arrivals", "poisson")[1]["offered"] for _ in range(2)}
    assert len(offered) == 1
    assert 20 < offered.pop() < 65


def test_failures_of_every_class_stay_in_the_denominator(job: Gate, engine: Engine) -> None:
    bad = [Reply(status=503), Reply(end="error"), Reply(end="cut"), Reply(text=""), Reply(end="hang")]
    engine.replies = deque([Reply(), *bad, *bad])
    _, result, _ = job.load(engine.url)
    assert (result["offered"], result["ok"]) == (40, 30)
    classes = ("http_503", "stream_error_event", "stream_truncated", "empty_completion", "deadline")
    assert result["errors"] == dict.fromkeys(classes, 2)


def test_a_dead_engine_is_zero_of_everything_that_was_offered(job: Gate) -> None:
    _, result, _ = job.load("http://127.0.0.1:1")
    assert (result["offered"], result["ok"], result["success"]) == (40, 0, 0.0)
    assert result["errors"] == {"connect_refused": 40}
    assert result["ttft_ms"] == {"p50": None, "p95": None, "p99": None}


def test_a_server_that_stands_still_shows_in_the_latencies_and_not_in_the_arrivals(
    job: Gate, engine: Engine
) -> None:
    process = job.jobs["load"].start(*job.plan(engine.url, rate="50", duration="1.2"))
    until = time.monotonic() + 20
    while len(engine.asked) < 20 and time.monotonic() < until:
        time.sleep(0.01)
    engine._loop.call_soon_threadsafe(time.sleep, 0.4)
    process.communicate(timeout=30)
    result = job.jobs["load"].result
    assert (result["offered"], result["ok"]) == (60, 60)
    assert result["e2e_ms"]["p99"] > 300
    assert result["late_ms_p99"] < 0.5 * result["e2e_ms"]["p99"]


def test_a_client_that_stands_still_calls_itself_invalid(job: Gate, engine: Engine) -> None:
    process = job.jobs["load"].start(*job.plan(engine.url, rate="50", duration="1.2"))
    until = time.monotonic() + 20
    while len(engine.asked) < 20 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.4)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=30)
    result = job.jobs["load"].result
    assert not result["valid"]
    assert any("sent late" in r for r in result["reasons"])


@pytest.mark.parametrize(
    "arguments",
    [["--rate", "0"], ["--duration", "-1"], ["--rate", "x"], ["--rate", "nan"], ["--arrivals", "burst"]],
)
def test_a_load_that_cannot_be_is_refused(job: Gate, arguments: list[str]) -> None:
    code, result, _ = job.load("http://127.0.0.1:1", *arguments)
    assert code == Code.BAD_INPUT
    assert result["error"]["class"] == "permanent"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (None, Code.TOKEN_MISSING),
        (OTHER_TOKEN, Code.TERMS_NOT_ACCEPTED),
        ("hf_wrong", Code.TOKEN_REFUSED),
        (GOOD_TOKEN, 0),
    ],
)
def test_access_tells_why_a_token_may_not_download(
    job: Gate, tmp_path: Path, token: str | None, code: int
) -> None:
    if token:
        (tmp_path / "token").write_text(token + "\n")
    job.jobs["access"].environment["HF_TOKEN_PATH"] = str(tmp_path / "token")
    with FaultyHub({"model.safetensors": bytes(20_000)}) as hub:
        job.jobs["access"].environment["HF_ENDPOINT"] = hub.url
        found, result, output = job.run(
            "access", "--repo", "gated/model", "--commit", COMMIT, "--path", "model.safetensors"
        )
    assert found == code, output
    assert not token or token not in output + json.dumps(result)
    assert result.get("token") is (True if code == 0 else None)
