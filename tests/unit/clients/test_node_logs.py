"""What is asked of Cloud Logging, what is made of its answer, and how it may fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials

from llm_release.clients.node_logs import NodeLogs
from llm_release.core.errors import Permanent, ReleaseError, Transient, Unavailable
from testbench.fakes.web import Request, Response, Server, as_json


class Logging:
    """Answers every request the same way."""

    def __init__(self) -> None:
        self.answer: Response = as_json({})
        self.asked: list[Request] = []
        self.url = ""

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        return self.answer


@pytest.fixture
def logging() -> Iterator[Logging]:
    held = Logging()
    server = Server(("127.0.0.1", 0), held)
    server.start()
    held.url = server.url
    yield held
    server.stop()


def read(url: str) -> Any:
    client = NodeLogs(project="acme", credentials=AnonymousCredentials(), endpoint=url)
    return client.snapshotter(["n2", "n1", "n2"], since="2026-11-21T15:07:19Z")


def entry(node: str, text: str, *, plain: bool = False) -> dict[str, Any]:
    words = {"textPayload": text} if plain else {"jsonPayload": {"MESSAGE": text}}
    return {"resource": {"type": "k8s_node", "labels": {"node_name": node}}, **words}


def test_lines_come_by_node_the_oldest_first(logging: Logging) -> None:
    latest_first = [entry("n1", "third"), entry("n2", "second", plain=True), entry("n1", "first")]
    logging.answer = as_json({"entries": latest_first})
    assert read(logging.url) == {"n1": ("first", "third"), "n2": ("second",)}


def test_one_project_is_asked_for_its_snapshotters_lines_of_these_nodes_since_then(logging: Logging) -> None:
    read(logging.url)
    (asked,) = logging.asked
    assert (asked.method, asked.path) == ("POST", "/v2/entries:list")
    body = json.loads(asked.body)
    assert body["resourceNames"] == ["projects/acme"]
    assert body["orderBy"] == "timestamp desc"
    assert body["filter"].split(" AND ") == [
        'logName="projects/acme/logs/gcfs-snapshotter"',
        'timestamp>="2026-11-21T15:07:19Z"',
        'resource.labels.node_name=("n1" OR "n2")',
        '"is backed by secondary boot disk"',
    ]


def test_no_lines_are_no_error(logging: Logging) -> None:
    assert read(logging.url) == {}


@pytest.mark.parametrize(
    ("status", "kind"), [(403, Permanent), (400, Permanent), (429, Transient), (503, Transient)]
)
def test_a_refusal_says_what_google_said(logging: Logging, status: int, kind: type[ReleaseError]) -> None:
    logging.answer = as_json({"error": {"message": "Permission denied for all log views."}}, status)
    with pytest.raises(kind, match=f"Cloud Logging answered {status}: Permission denied for all log views"):
        read(logging.url)


def test_a_refusal_without_words_is_told_all_the_same(logging: Logging) -> None:
    logging.answer = Response(status=403, body=b"<html>")
    with pytest.raises(Permanent, match="no reason given"):
        read(logging.url)


def test_nobody_there_and_no_json_are_unavailable(logging: Logging) -> None:
    with pytest.raises(Unavailable, match="could not be asked"):
        read("http://127.0.0.1:1")
    logging.answer = Response(body=b"<html>")
    with pytest.raises(Unavailable):
        read(logging.url)
