"""A registry's client against registries on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llm_release.clients import registry
from llm_release.clients.registry import Registry, split
from llm_release.core.errors import Permanent, Unavailable

DIGEST = "sha256:" + "a" * 64


class Host:
    """Answers HEAD for one image; `elsewhere` is where it sends those who ask for `moved`."""

    def __init__(self) -> None:
        self.elsewhere = ""
        self.seen: list[tuple[str, str | None]] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                host.seen.append((self.path, self.headers.get("Authorization")))
                if "moved" in self.path and host.elsewhere:
                    self.send_response(307)
                    self.send_header("Location", f"http://{host.elsewhere}/v2/llm/engine/manifests/v1")
                elif "absent" in self.path:
                    self.send_response(404)
                else:
                    self.send_response(200)
                    self.send_header("Docker-Content-Digest", DIGEST)
                self.end_headers()

            do_GET = do_HEAD

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


def test_a_tag_becomes_a_digest(host: Host) -> None:
    found = Registry(insecure=(host.name,)).digest(f"{host.name}/llm/engine:v1")
    assert found == f"{host.name}/llm/engine@{DIGEST}"
    assert host.seen == [("/v2/llm/engine/manifests/v1", None)]


def test_an_image_that_does_not_exist_is_permanent_and_named(host: Host) -> None:
    with pytest.raises(Permanent, match="llm/absent:v1"):
        Registry(insecure=(host.name,)).digest(f"{host.name}/llm/absent:v1")


def test_a_registry_that_is_not_there_is_unavailable(host: Host) -> None:
    host.close()
    with pytest.raises(Unavailable, match="cannot be reached"):
        Registry(insecure=(host.name,)).digest(f"{host.name}/llm/engine:v1")


def test_the_google_token_goes_to_googles_registries_alone(host: Host) -> None:
    Registry(insecure=(host.name,), google_token=lambda: "SECRET").digest(f"{host.name}/llm/engine:v1")
    assert host.seen[0][1] is None


def test_the_google_token_does_not_follow_a_redirect(host: Host, other: Host) -> None:
    host.elsewhere = other.name
    found = registry._request(f"http://{host.name}/v2/llm/moved/manifests/v1", "SECRET", "HEAD")[0]
    assert found["Docker-Content-Digest"] == DIGEST
    assert host.seen[0][1] == "Bearer SECRET"
    assert other.seen[0][1] is None


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("vllm/vllm-openai:v1", ("docker.io", "vllm/vllm-openai", "v1")),
        ("ubuntu", ("docker.io", "library/ubuntu", "latest")),
        ("localhost:5000/a/b", ("localhost:5000", "a/b", "latest")),
        (f"us-docker.pkg.dev/p/r/i@{DIGEST}", ("us-docker.pkg.dev", "p/r/i", DIGEST)),
    ],
)
def test_an_image_is_a_host_a_repository_and_a_reference(image: str, parts: tuple[str, str, str]) -> None:
    assert split(image) == parts
