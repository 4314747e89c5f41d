"""The simulated engine: vLLM's command line, answers, metrics and end."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbench import config
from testbench.versions import sim
from testbench.versions.answers import FACTS, A, B

VLLM = config.ROOT / "testbench" / "sim" / "vllm"
TOKYO = "What is the capital of Japan?"


def _port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Running:
    """An engine in a process of its own."""

    def __init__(self, model: Path, branch: str = "v1", *, start: bool = True) -> None:
        sim.base(model, branch, sim.BEHAVIOURS[branch])
        self.model = model
        self.port = _port()
        if start:
            self.start()

    def start(self) -> None:
        flags = ["--served-model-name", "demo", "--port", str(self.port), "--max-model-len=512"]
        unknown = ["--kv-cache-dtype=fp8", "--gpu-memory-utilization", "0.9", "--enable-prefix-caching"]
        self.process = subprocess.Popen([sys.executable, VLLM, "serve", self.model, *flags, *unknown])

    def ready(self) -> None:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                self.call("/health")
                return
            except OSError:
                time.sleep(0.05)
        raise TimeoutError

    def call(self, path: str, **body: Any) -> str:
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())

    def ask(self, question: str, **more: Any) -> dict[str, Any]:
        turn = [{"role": "user", "content": question}]
        found = self.call("/v1/chat/completions", model="demo", messages=turn, max_tokens=48, **more)
        answer: dict[str, Any] = json.loads(found)
        return answer


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "model")
    running.ready()
    yield running
    running.process.kill()
    running.process.wait()


def test_answers_are_right_and_tell_versions_apart() -> None:
    for said in (A, B):
        assert all(re.search(fact, said[question]) for question, fact in FACTS.items())
    assert A.keys() == B.keys()
    assert not set(A.values()) & set(B.values())


def test_chat_models_metrics(engine: Running, tmp_path: Path) -> None:
    for question, answer in A.items():
        choice = engine.ask(question)["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (answer, "stop")
    model = json.loads(engine.call("/v1/models"))["data"][0]
    assert (model["id"], model["root"], model["max_model_len"]) == ("demo", str(tmp_path / "model"), 512)
    metrics = engine.call("/metrics")
    assert re.search(
        r'vllm:request_success_total\{.*finished_reason="stop",model_name="demo"\} 10\.0', metrics
    )
    assert 'vllm:num_requests_running{engine="0",model_name="demo"} 0.0' in metrics
    assert "version" in json.loads(engine.call("/version"))


def test_streams_end_with_usage(engine: Running) -> None:
    turn = [{"role": "user", "content": TOKYO}]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    prompts: dict[str, dict[str, Any]] = {
        "chat/completions": {"messages": turn},
        "completions": {"prompt": TOKYO},
    }
    for path, body in prompts.items():
        text = engine.call(f"/v1/{path}", model="demo", **body, **options)
        lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        assert lines[-1] == "[DONE]"
        events = [json.loads(line) for line in lines[:-1]]
        choices = [c for e in events for c in e["choices"]]
        said = "".join(c["text"] if "text" in c else c["delta"]["content"] for c in choices)
        assert said == A[TOKYO]
        assert choices[-1]["finish_reason"] == "stop"
        assert events[-1]["usage"]["completion_tokens"] == len(A[TOKYO].split())


def test_limits_and_errors(engine: Running) -> None:
    short = json.loads(engine.call("/v1/completions", model="demo", prompt=TOKYO, max_tokens=2))
    assert short["choices"][0]["finish_reason"] == "length"
    turns = [{"role": "user", "content": TOKYO}]
    wrong = ({"model": "other", "messages": turns}, {"model": "demo"}, {"messages": turns, "max_tokens": 600})
    for body, code in zip(wrong, (404, 400, 400), strict=True):
        with pytest.raises(urllib.error.HTTPError) as e:
            engine.call("/v1/chat/completions", **body)
        assert e.value.code == code


def test_knobs(engine: Running) -> None:
    engine.call("/_sim", garbage=True)
    choice = engine.ask(TOKYO)["choices"][0]
    assert (choice["finish_reason"], "Tokyo" in choice["message"]["content"]) == ("length", False)
    engine.call("/_sim", garbage=False, status=503)
    with pytest.raises(urllib.error.HTTPError):
        engine.ask(TOKYO)
    engine.call("/_sim", status=0, hang=True, max_concurrent=1)
    waiting = [threading.Thread(target=engine.ask, args=(TOKYO,)) for _ in range(2)]
    for thread in waiting:
        thread.start()
    time.sleep(0.3)
    assert 'num_requests_waiting{engine="0",model_name="demo"} 1.0' in engine.call("/metrics")
    engine.call("/_sim", hang=False)
    for thread in waiting:
        thread.join(5)
    with pytest.raises(urllib.error.HTTPError):
        engine.call("/_sim", nonsense=1)


def test_sigterm_finishes_what_is_in_flight_and_closes_idle_connections(engine: Running) -> None:
    engine.call("/_sim", token_seconds=0.15)
    idle = socket.create_connection(("127.0.0.1", engine.port))
    idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200" in idle.recv(4096)
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(engine.ask(TOKYO)))
    thread.start()
    time.sleep(0.3)
    engine.process.send_signal(signal.SIGTERM)
    idle.settimeout(0.4)
    assert idle.recv(1) == b""
    assert engine.process.wait(5) == 0
    thread.join(5)
    assert answers[0]["choices"][0]["message"]["content"] == A[TOKYO]


def test_times_to_the_first_token_are_counted(engine: Running) -> None:
    engine.call("/_sim", token_seconds=0.03)
    engine.ask(TOKYO)
    text = engine.call("/metrics")
    labels = 'engine="0",model_name="demo"'
    for name in ("time_to_first_token", "e2e_request_latency"):
        assert f"vllm:{name}_seconds_count{{{labels}}} 1.0" in text
        assert f'vllm:{name}_seconds_bucket{{{labels},le="+Inf"}} 1.0' in text
    assert f'vllm:time_to_first_token_seconds_bucket{{{labels},le="0.02"}} 0.0' in text
    assert f'vllm:e2e_request_latency_seconds_bucket{{{labels},le="0.1"}} 0.0' in text


def test_a_stream_that_is_cut_has_no_end(engine: Running) -> None:
    engine.call("/_sim", cut_after=2)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        engine.call("/v1/completions", model="demo", prompt=TOKYO, stream=True)


def test_a_crash_while_it_serves_ends_the_process(engine: Running) -> None:
    with pytest.raises(OSError, match=r"(?i)closed|reset"):
        engine.call("/_sim", crash=True)
    assert engine.process.wait(5) == 1


def test_a_folder_without_its_behaviour_is_no_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    running = Running(tmp_path / "model", start=False)
    (tmp_path / "model" / "sim.json").unlink()
    running.start()
    assert running.process.wait(10) == 1
    assert "sim.json" in capfd.readouterr().err


def test_a_crash_at_the_start(tmp_path: Path) -> None:
    assert Running(tmp_path / "model", "crash").process.wait(10) == 1
