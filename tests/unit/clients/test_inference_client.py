from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from llm_release.clients.inference import Connections, Outcome
from llm_release.clients.inference import Engine as Client
from llm_release.core.errors import Transient, Unavailable
from llm_release.core.smoke import Message, Prompt
from tests.unit.support.engine import Engine, Reply

CHAT = Prompt(name="p", messages=(Message(role="user", content="hi"),), max_tokens=16)
TEXT = Prompt(name="p", prompt="hi", max_tokens=16)


ONLY_AN_END = (
    b'data: {"choices": [{"delta": {"content": ""}, "finish_reason": "stop"}], "model": "m"}\n\n'
    b'data: {"choices": [], "usage": {"completion_tokens": 1}, "model": "m"}\n\ndata: [DONE]\n\n'
)
"""What vLLM sends when the first token ends the answer: one token, no text."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as served:
        yield served


def ask(
    url: str,
    prompt: Prompt = CHAT,
    *,
    within: float = 5.0,
    times: int = 1,
    connections: Connections = "per-request",
    model: str = "m",
) -> Outcome:
    """The last of several outcomes."""

    async def run() -> Outcome:
        async with Client(url, model, connections=connections) as client:
            for _ in range(times):
                outcome = await client.ask(prompt, deadline=asyncio.get_running_loop().time() + within)
        return outcome

    return asyncio.run(run())


@pytest.mark.parametrize(("prompt", "path"), [(CHAT, "/v1/chat/completions"), (TEXT, "/v1/completions")])
def test_a_good_answer_has_text_tokens_and_times(engine: Engine, prompt: Prompt, path: str) -> None:
    engine.default = Reply("a b c", first_s=0.1, gap_s=0.05)
    found = ask(engine.url, prompt)
    assert (found.error, found.status, found.text, found.finish_reason) == (None, 200, "a b c ", "stop")
    assert (found.tokens, found.prompt_tokens) == (3, 5)
    assert found.headers is not None
    assert found.first_token is not None
    assert found.last_token is not None
    assert found.sent < found.headers < found.first_token < found.last_token <= found.done
    assert 0.1 <= found.first_token - found.sent < 2
    assert 0.09 <= found.last_token - found.first_token < 2
    assert engine.asked[-1]["path"] == path
    assert engine.asked[-1]["temperature"] == 0


def test_the_role_chunk_is_not_the_first_token(engine: Engine) -> None:
    engine.default = Reply(first_s=0.2, counted=False)
    found = ask(engine.url)
    assert found.first_token is not None
    assert found.first_token - found.sent >= 0.2


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=429), "http_429"),
        (Reply(status=503), "http_503"),
        (Reply(status=500), "http_5xx"),
        (Reply(status=404), "http_4xx"),
        (Reply(status=302), "http_other"),
        (Reply(end="error", end_after=2), "stream_error_event"),
        (Reply(end="cut", end_after=2), "stream_truncated"),
        (Reply(end="reset", end_after=2), "stream_truncated"),
        (Reply(finish=None), "stream_truncated"),
        (Reply(finish="abort"), "stream_truncated"),
        (Reply(text=""), "empty_completion"),
        (Reply(raw=ONLY_AN_END), "empty_completion"),
        (Reply(model="another"), "wrong_model"),
        (Reply(raw=b"data: what\n\ndata: [DONE]\n\n"), "invalid_payload"),
        (Reply(raw=b""), "stream_truncated"),
        (Reply(end="hang", end_after=2), "deadline"),
        (Reply(first_s=9), "deadline"),
    ],
)
def test_every_way_to_go_wrong_has_a_class_of_its_own(engine: Engine, reply: Reply, error: str) -> None:
    engine.default = reply
    found = ask(engine.url, within=0.4 if error == "deadline" else 5.0)
    assert found.error == error, found.detail
    assert found.done >= found.sent


def test_the_deadline_is_kept(engine: Engine) -> None:
    engine.default = Reply(end="hang")
    found = ask(engine.url, within=0.3)
    assert 0.29 <= found.done - found.sent < 2
    assert found.text


def test_a_port_where_nobody_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert ask(f"http://127.0.0.1:{port}").error == "connect_refused"


def test_a_name_that_does_not_resolve_is_dns() -> None:
    assert ask("http://nowhere.invalid:80").error == "dns"


def test_a_server_that_closes_before_it_answers_is_a_reset() -> None:
    async def run() -> Outcome:
        async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.close()

        server = await asyncio.start_server(close, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, Client(f"http://127.0.0.1:{port}", "m") as client:
            return await client.ask(CHAT, deadline=asyncio.get_running_loop().time() + 5)

    assert asyncio.run(run()).error == "reset_before_headers"


def test_nothing_is_retried(engine: Engine) -> None:
    engine.replies = deque([Reply(status=503)])
    assert ask(engine.url).error == "http_503"
    assert len(engine.asked) == 1


@pytest.mark.parametrize(("connections", "wanted"), [("per-request", 4), ("pooled", 1)])
def test_connections_are_shared_or_not_as_the_caller_says(
    engine: Engine, connections: Connections, wanted: int
) -> None:
    assert ask(engine.url, times=4, connections=connections).error is None
    assert len(engine.connections) == wanted


def test_the_served_names_are_listed(engine: Engine) -> None:
    async def run(url: str) -> tuple[str, ...]:
        async with Client(url, "m") as client:
            return await client.models(timeout_s=1)

    assert asyncio.run(run(engine.url)) == ("m",)
    with pytest.raises(Transient, match="answered 404"):
        asyncio.run(run(f"{engine.url}/elsewhere"))
    with pytest.raises(Unavailable, match="cannot be reached"):
        asyncio.run(run("http://127.0.0.1:1"))


def test_a_hundred_at_once_are_a_hundred_outcomes(engine: Engine) -> None:
    def every_tenth_fails(asked: dict[str, Any]) -> Reply:
        return Reply(status=503) if len(engine.asked) % 10 == 0 else Reply(first_s=0.05)

    engine.default = every_tenth_fails

    async def run() -> list[Outcome]:
        async with Client(engine.url, "m") as client:
            until = asyncio.get_running_loop().time() + 10
            return await asyncio.gather(*(client.ask(CHAT, deadline=until) for _ in range(100)))

    found = asyncio.run(run())
    assert [sum(o.error == e for o in found) for e in (None, "http_503")] == [90, 10]
