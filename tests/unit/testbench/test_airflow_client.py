"""The REST client's own behaviour, against a small server that answers as the API does: pages, log-in, errors.

That the API really answers so is tested in tests/bench/test_airflow.py.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from testbench.airflow.client import Airflow, ApiError
from testbench.airflow.facts import Task, line_of, run_of


class Api:
    """An API with 250 runs of one DAG, whose tokens can be revoked."""

    def __init__(self) -> None:
        self.token = "one"
        self.logins = 0
        self.states = ["queued", "running", "success"]
        self.sent: list[Any] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(*api.get(self.path, self.headers.get("authorization")))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                api.sent.append(body)
                self.answer(*api.post(self.path, body))

            def answer(self, code: int, document: Any) -> None:
                data = json.dumps(document).encode()
                self.send_response(code)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def get(self, target: str, authorization: str | None) -> tuple[int, Any]:
        if authorization != f"Bearer {self.token}":
            return 401, {"detail": "Unauthorized"}
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        if path.endswith("/dags/many/dagRuns"):
            offset, limit = int(query["offset"][0]), int(query["limit"][0])
            rows = [run(f"r{n}", "success") for n in range(250)]
            return 200, {"dag_runs": rows[offset : offset + limit], "total_entries": 250}
        if path.endswith("/dagRuns/r1"):
            return 200, run("r1", self.states.pop(0) if len(self.states) > 1 else self.states[0])
        if path.endswith("/taskInstances"):
            return 200, {"task_instances": [], "total_entries": 0}
        return 404, {"detail": "not found"}

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/auth/token":
            self.logins += 1
            good = body == {"username": "alice", "password": "secret"}
            return (201, {"access_token": self.token}) if good else (401, {"detail": "Invalid credentials"})
        return 200, run("r1", "queued")


def run(run_id: str, state: str) -> dict[str, Any]:
    return {
        "dag_id": "d",
        "dag_run_id": run_id,
        "state": state,
        "conf": {},
        "queued_at": "2026-01-01T00:00:00Z",
        "start_date": "2026-01-01T00:00:01Z",
        "end_date": "2026-01-01T00:00:05.500000Z" if state in ("success", "failed") else None,
    }


@pytest.fixture
def api() -> Iterator[Api]:
    there = Api()
    yield there
    there.server.shutdown()
    there.server.server_close()


def alice(api: Api) -> Airflow:
    return Airflow(url=api.url, user="alice", password="secret")


def test_every_page_is_read(api: Api) -> None:
    assert [r.run_id for r in alice(api).runs("many")] == [f"r{n}" for n in range(250)]


def test_a_revoked_token_is_replaced_once_and_quietly(api: Api) -> None:
    airflow = alice(api)
    airflow.run("d", "r1")
    api.token = "two"
    airflow.run("d", "r1")
    assert api.logins == 2


def test_a_wrong_password_is_told(api: Api) -> None:
    with pytest.raises(ApiError, match="Invalid credentials") as refused:
        Airflow(url=api.url, user="alice", password="wrong").run("d", "r1")
    assert refused.value.status == 401


def test_nobody_there_is_an_error_with_status_zero() -> None:
    with pytest.raises(ApiError) as refused:
        Airflow(url="http://127.0.0.1:9", user="alice", password="secret").run("d", "r1")
    assert refused.value.status == 0


def test_the_password_is_in_no_representation(api: Api) -> None:
    airflow = alice(api)
    airflow.run("d", "r1")
    assert "secret" not in repr(airflow)
    assert "one" not in repr(airflow)


def test_waiting_ends_with_the_run(api: Api) -> None:
    airflow = alice(api)
    ended = airflow.wait(airflow.trigger("d", {"revision": "v1"}), timeout_s=5, every_s=0.01)
    assert ended.finished
    assert ended.seconds == 5.5
    assert api.sent[-1] == {"logical_date": None, "conf": {"revision": "v1"}}


def test_waiting_is_bounded(api: Api) -> None:
    api.states = ["running"]
    airflow = alice(api)
    with pytest.raises(TimeoutError, match="d r1 is running after 0 s"):
        airflow.wait(airflow.trigger("d"), timeout_s=0.05, every_s=0.01)


def test_a_task_without_a_return_value_has_none(api: Api) -> None:
    assert alice(api).xcom(run_of(run("r1", "success")), "a.b") is None


def test_a_log_message_is_one_line_with_its_fields() -> None:
    message = {"timestamp": "T", "event": "made", "level": "info", "n": 3}
    assert line_of(message) == "T made level=info n=3"
    assert line_of("plain") == "plain"


def test_a_task_knows_its_group() -> None:
    task = Task(task_id="stage.seal", map_index=-1, state="success", tries=1, started=None, ended=None)
    assert task.group == "stage"
