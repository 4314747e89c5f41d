"""An engine that speaks OpenAI's HTTP API: one question, one outcome, nothing retried and nothing hidden.

Made to be measured with: times are taken on the event loop's clock as bytes arrive, an error is an outcome
with a class and never an exception, and whether connections are shared is the caller's choice. What an
answer is worth is not judged here.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import aiohttp

from llm_release.clients.inference_errors import Refused, classify, words
from llm_release.core.errors import Permanent, Transient, Unavailable
from llm_release.core.smoke import Prompt
from llm_release.core.stream import Completion, Events

Connections = Literal["pooled", "per-request"]
"""Keep-alive as most clients do, or a new connection each: with several replicas behind a Service only the
latter reaches all of them."""

CONNECT_S = 5.0
FINISHED = ("stop", "length", "tool_calls", "eos_token", "stop_sequence")
"""Reasons with which an answer is one (vLLM's and TGI's); vLLM's `abort` and `error` come as 200 too."""
_READ_BUFFER = 4 << 20
"""Bytes; aiohttp's 64 KiB throttle long contexts."""


@dataclass(slots=True)
class Outcome:
    """What became of one question; times in seconds of the event loop's clock.

    Attributes:
        sent: just before the request was handed to the connection pool.
        headers: when the head of the answer was read.
        first_token: first chunk that brought a token (by the engine's count where it counts, else by text).
        last_token: the last such chunk.
        done: the end, good or bad.
        error: its class; None when the answer came in full, in time.
        detail: the error in a few words.
    """

    sent: float
    done: float = 0.0
    headers: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    status: int | None = None
    text: str = ""
    finish_reason: str | None = None
    tokens: int = 0
    prompt_tokens: int | None = None
    chunks: int = 0
    error: str | None = None
    detail: str = ""


class Engine:
    """A client of the engine at `url`; to be used with `async with`.

    Args:
        url: `http://host:port`.
        model: the name that the engine serves under.
        connections: see there.
    """

    def __init__(self, url: str, model: str, *, connections: Connections = "per-request") -> None:
        self._url = url.rstrip("/")
        self._model = model
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Engine:
        connector = aiohttp.TCPConnector(
            limit=0, force_close=self._connections == "per-request", ttl_dns_cache=30
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            read_bufsize=_READ_BUFFER,
            headers={"User-Agent": "llm-release"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def models(self, *, timeout_s: float = 5.0) -> tuple[str, ...]:
        """The names that the engine serves.

        Raises:
            Unavailable: nobody answers.
            Transient: an answer, but none of a ready engine.
        """
        assert self._session is not None, "use it with `async with`"
        url = f"{self._url}/v1/models"
        try:
            async with asyncio.timeout(timeout_s), self._session.get(url, allow_redirects=False) as answer:
                document = await answer.json(content_type=None) if answer.status == 200 else {}
                if answer.status == 200:
                    return tuple(str(m["id"]) for m in document["data"])
                said = f"answered {answer.status}"
        except (aiohttp.ClientConnectionError, TimeoutError, OSError) as e:
            raise Unavailable(
                f"{url} cannot be reached: {words(e)}.", next_action="look at the Service and its pods."
            ) from e
        except (aiohttp.ClientError, ValueError, KeyError, TypeError) as e:
            said = f"gave no list of models ({type(e).__name__})"
        raise Transient(f"{url} {said}.", next_action="look at the engine's log.")

    def body(self, prompt: Prompt, *, stream: bool = True) -> bytes:
        """The request for a prompt: greedy, so that the same engine gives the same answer."""
        asked: dict[str, Any] = {
            "model": self._model,
            "max_tokens": prompt.max_tokens,
            "temperature": 0,
            "stream": stream,
        }
        if stream:
            asked["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        if prompt.prompt is not None:
            asked["prompt"] = prompt.prompt
        else:
            asked["messages"] = [{"role": m.role, "content": m.content} for m in prompt.messages]
        return json.dumps(asked).encode()

    def path(self, prompt: Prompt) -> str:
        return "/v1/chat/completions" if prompt.prompt is None else "/v1/completions"

    async def ask(self, prompt: Prompt, *, deadline: float, body: bytes | None = None) -> Outcome:
        """Asks once and reads the stream to its end.

        Args:
            prompt: the question.
            deadline: on the event loop's clock; later is the error `deadline`.
            body: the request where the caller made it before (see `body`).
        """
        loop = asyncio.get_running_loop()
        outcome, completion = Outcome(sent=loop.time()), Completion()
        try:
            async with asyncio.timeout_at(deadline):
                await self._exchange(prompt, body or self.body(prompt), outcome, completion)
        except Exception as e:
            outcome.error, outcome.detail = classify(e, started=outcome.headers is not None), words(e)
        outcome.done = loop.time()
        outcome.text, outcome.finish_reason = completion.text, completion.finish_reason
        outcome.tokens, outcome.prompt_tokens = completion.tokens, completion.prompt_tokens
        if outcome.error is None:
            outcome.error, outcome.detail = self._judge(completion)
        return outcome

    async def _exchange(self, prompt: Prompt, body: bytes, outcome: Outcome, completion: Completion) -> None:
        assert self._session is not None, "use it with `async with`"
        loop = asyncio.get_running_loop()
        async with self._session.post(
            self._url + self.path(prompt),
            data=body,
            headers={"Content-Type": "application/json"},
            allow_redirects=False,
        ) as answer:
            outcome.headers, outcome.status = loop.time(), answer.status
            if answer.status != 200:
                raise Refused(answer.status, (await answer.content.read(500)).decode(errors="replace"))
            events = Events()
            async for chunk in answer.content.iter_any():
                now = loop.time()
                outcome.chunks += 1
                for event in events.feed(chunk):
                    if completion.event(event):
                        outcome.first_token = outcome.first_token or now
                        outcome.last_token = now

    def _judge(self, completion: Completion) -> tuple[str | None, str]:
        """An answer that began as 200 and was read to its end can still be none."""
        if completion.error is not None:
            return "stream_error_event", completion.error
        if completion.invalid:
            return "invalid_payload", "an event was no JSON object"
        if not completion.done or completion.finish_reason is None:
            return "stream_truncated", "the stream ended before the answer did"
        if completion.finish_reason not in FINISHED:
            return "stream_truncated", f"the engine ended it: {completion.finish_reason[:40]}"
        if completion.model is not None and completion.model != self._model:
            return "wrong_model", f"answered as {completion.model!r}"
        if not (completion.text or completion.reasoned or completion.finish_reason == "tool_calls"):
            return "empty_completion", ""
        return None, ""


def check_url(url: str) -> str:
    """
    Raises:
        Permanent: it is no http or https address.
    """
    if not url.startswith(("http://", "https://")):
        raise Permanent(f"{url!r} is no http or https address.", next_action="correct --url.")
    return url
