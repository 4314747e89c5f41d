"""The metadata server of a node, asked by google-auth as the CSI driver's library asks it."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
from google.auth import exceptions
from google.auth.compute_engine import _metadata
from google.auth.transport.requests import Request

from testbench.fakes.metadata import answers, handler


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    known = answers(
        instance="gpu-node-1", project="demo", number="123", zone="us-central1-a", machine="g2-standard-24"
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(known))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    # google-auth reads the environment when it is imported.
    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(path: str) -> object:
    return _metadata.get(Request(), path, retry_count=1)


def test_a_node_knows_who_and_where_it_is(node: str) -> None:
    assert ask("project/project-id") == "demo"
    assert ask("instance/name") == "gpu-node-1"
    assert ask("instance/zone") == "projects/123/zones/us-central1-a"
    assert ask("instance/machine-type") == "projects/123/machineTypes/g2-standard-24"


def test_what_a_node_does_not_have_is_refused(node: str) -> None:
    with pytest.raises(exceptions.TransportError, match="404"):
        ask("instance/attributes/none")


def test_the_node_has_a_token(node: str) -> None:
    token, _ = _metadata.get_service_account_token(Request())
    assert token


def test_a_request_that_does_not_name_google_is_refused(node: str) -> None:
    with pytest.raises(OSError, match="403"):
        urllib.request.urlopen(f"{node}/computeMetadata/v1/instance/name", timeout=5)
