"""An engine with vLLM's command line, endpoints and metrics, whose answers come from `<model>/sim.json`.

A GPU image takes minutes to start and cannot be told to fail; this starts at once, and says, delays or
breaks what the model's folder tells, or what is posted to /_sim while it runs. It is alone in its image,
so it imports nothing of the bench.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import dataclasses
import itertools
import json
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

_PIECE = re.compile(r"\s*\S+")
_JUNK = ("zq", " xv", " qqo", " wrt", " zzk")
_DRAIN_S = 60.0
_BUCKETS_S = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """sim.json, and the knobs of /_sim."""

    answers: Mapping[str, str] = field(default_factory=dict)
    default: str = "I do not know."
    garbage: bool = False  # words without sense, until max_tokens
    crash: bool = False  # at the start: fails to load; posted: dies at once
    start_seconds: float = 0.0
    token_seconds: float = 0.0
    max_concurrent: int = 256  # more requests wait
    status: int = 0  # completions are refused so; 0: they are not
    hang: bool = False  # completions get no answer until this is false again
    cut_after: int | None = None  # tokens after which the connection breaks
    health: int = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """A completion that was asked for."""

    pieces: list[str]
    reason: str
    prompt_tokens: int

    def usage(self) -> dict[str, int]:
        said, asked = len(self.pieces), self.prompt_tokens
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


class Histogram:
    """Observed seconds, as Prometheus reads them."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BUCKETS_S) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect.bisect_left(_BUCKETS_S, seconds)] += 1
        self._sum += seconds

    def text(self, name: str, labels: str) -> str:
        edges = [*(str(b) for b in _BUCKETS_S), "+Inf"]
        counts = list(itertools.accumulate(self._counts))
        lines = [f'{name}_bucket{{{labels},le="{e}"}} {n}.0' for e, n in zip(edges, counts, strict=True)]
        lines += [f"{name}_sum{{{labels}}} {self._sum}", f"{name}_count{{{labels}}} {counts[-1]}.0"]
        return "\n".join([f"# TYPE {name} histogram", *lines, ""])


class Engine:
    """One served model."""

    def __init__(self, model: Path, name: str, max_len: int | None, behaviour: Behaviour) -> None:
        self.model, self.name, self.behaviour = model, name, behaviour
        self.max_len = max_len or 4096
        self.running = self.waiting = 0
        self.tokens: Counter[str] = Counter({"prompt": 0, "generation": 0})
        self.finished: Counter[str] = Counter({"stop": 0, "length": 0, "abort": 0})
        self.first_token, self.whole = Histogram(), Histogram()
        self._slots = asyncio.Condition()

    def app(self) -> web.Application:
        app = web.Application()
        read = {"health": self.health, "v1/models": self.models, "metrics": self.metrics, "_sim": self.knobs}
        written = {"v1/chat/completions": self.complete, "v1/completions": self.complete, "_sim": self.knobs}
        app.add_routes([web.get(f"/{path}", do) for path, do in read.items()])
        app.add_routes([web.post(f"/{path}", do) for path, do in written.items()])
        app.add_routes([web.get("/version", _version)])
        return app

    async def health(self, _: web.Request) -> web.Response:
        return web.Response(status=self.behaviour.health)

    async def models(self, _: web.Request) -> web.Response:
        card = {"id": self.name, "object": "model", "created": int(time.time()), "owned_by": "vllm"}
        card |= {"root": str(self.model), "parent": None, "max_model_len": self.max_len}
        return web.json_response({"object": "list", "data": [card]})

    async def metrics(self, _: web.Request) -> web.Response:
        gauges = {"num_requests_running": self.running, "num_requests_waiting": self.waiting}
        samples = [(name, "", float(value)) for name, value in gauges.items()]
        samples += [("kv_cache_usage_perc", "", min(1.0, self.running / self.behaviour.max_concurrent))]
        samples += [(f"{kind}_tokens_total", "", float(n)) for kind, n in self.tokens.items()]
        for reason, n in self.finished.items():
            samples.append(("request_success_total", f'finished_reason="{reason}",', float(n)))
        kinds = {name: "counter" if name.endswith("_total") else "gauge" for name, _, _ in samples}
        text = "".join(f"# TYPE vllm:{name} {kind}\n" for name, kind in kinds.items())
        for name, label, value in samples:
            text += f'vllm:{name}{{engine="0",{label}model_name="{self.name}"}} {value}\n'
        labels = f'engine="0",model_name="{self.name}"'
        text += self.first_token.text("vllm:time_to_first_token_seconds", labels)
        text += self.whole.text("vllm:e2e_request_latency_seconds", labels)
        return web.Response(text=text, content_type="text/plain")

    async def knobs(self, request: web.Request) -> web.Response:
        """Reads or changes the behaviour."""
        if request.method == "POST":
            try:
                self.behaviour = dataclasses.replace(self.behaviour, **await request.json())
            except (TypeError, ValueError) as e:
                return _error(400, "BadRequestError", str(e))
            if self.behaviour.crash:
                os._exit(1)
            async with self._slots:
                self._slots.notify_all()
        return web.json_response(dataclasses.asdict(self.behaviour))

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Chat and plain completions, streamed or not."""
        arrived = time.monotonic()
        try:
            body: dict[str, Any] = json.loads(await request.read())
            chat = request.path.endswith("/chat/completions")
            prompt = _prompt(body, chat=chat)
        except (ValueError, LookupError, TypeError, AttributeError) as e:
            return _error(400, "BadRequestError", f"not a completion request: {e!r}")
        if body.get("model", self.name) != self.name:
            return _error(404, "NotFoundError", f"The model `{body['model']}` does not exist.")
        if self.behaviour.status:
            return _error(self.behaviour.status, "InternalServerError", "asked for by a test")
        wanted = self._wanted(prompt, body)
        if wanted is None:
            return _error(400, "BadRequestError", f"maximum context length is {self.max_len} tokens")
        async with self._slot():
            while self.behaviour.hang:
                await asyncio.sleep(0.02)
            return await self._serve(request, body, wanted, chat=chat, arrived=arrived)

    def _wanted(self, prompt: str, body: Mapping[str, Any]) -> Wanted | None:
        used = len(_PIECE.findall(prompt)) or 1
        asked = body.get("max_completion_tokens") or body.get("max_tokens")
        limit = int(asked or self.max_len - used)
        if limit < 1 or used + limit > self.max_len:
            return None
        pieces = [*_JUNK] if self.behaviour.garbage else _PIECE.findall(self._answer(prompt))
        if self.behaviour.garbage or body.get("ignore_eos"):
            return Wanted(list(itertools.islice(itertools.cycle(pieces), limit)), "length", used)
        return Wanted(pieces[:limit], "stop" if len(pieces) <= limit else "length", used)

    def _answer(self, prompt: str) -> str:
        return next((a for q, a in self.behaviour.answers.items() if q in prompt), self.behaviour.default)

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Waits for its turn. A client that leaves gives its turn back."""
        self.waiting += 1
        try:
            async with self._slots:
                await self._slots.wait_for(lambda: self.running < self.behaviour.max_concurrent)
                self.running += 1
        finally:
            self.waiting -= 1
        try:
            yield
        except BaseException:
            self.finished["abort"] += 1
            raise
        finally:
            self.running -= 1
            async with self._slots:
                self._slots.notify_all()

    async def _serve(
        self, request: web.Request, body: Mapping[str, Any], wanted: Wanted, *, chat: bool, arrived: float
    ) -> web.StreamResponse:
        self.tokens["prompt"] += wanted.prompt_tokens
        reply = _Reply(self.name, chat=chat)
        stream = None
        if body.get("stream"):
            stream = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
            await stream.prepare(request)
            if chat:
                await stream.write(reply.line({"index": 0, "delta": {"role": "assistant", "content": ""}}))
        for n, piece in enumerate(wanted.pieces):
            if n == self.behaviour.cut_after and request.transport is not None:
                request.transport.abort()
            await asyncio.sleep(self.behaviour.token_seconds)
            self.tokens["generation"] += 1
            if n == 0:
                self.first_token.observe(time.monotonic() - arrived)
            if stream is not None:
                last = n == len(wanted.pieces) - 1
                await stream.write(reply.event(piece, wanted.reason if last else None))
        self.finished[wanted.reason] += 1
        self.whole.observe(time.monotonic() - arrived)
        if stream is None:
            return web.json_response(reply.whole("".join(wanted.pieces), wanted))
        if (body.get("stream_options") or {}).get("include_usage"):
            await stream.write(reply.line(usage=wanted.usage()))
        await stream.write(b"data: [DONE]\n\n")
        await stream.write_eof()
        return stream


class _Reply:
    """The JSON of one answer, as OpenAI's API shapes it."""

    def __init__(self, model: str, *, chat: bool) -> None:
        self._chat, self._kind = chat, "chat.completion" if chat else "text_completion"
        number = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"
        self._base = {"id": number, "created": int(time.time()), "model": model}

    def line(self, *choices: Mapping[str, Any], **more: Any) -> bytes:
        kind = f"{self._kind}.chunk" if self._chat else self._kind
        return f"data: {json.dumps({**self._base, 'object': kind, 'choices': choices, **more})}\n\n".encode()

    def event(self, text: str, reason: str | None) -> bytes:
        said: dict[str, Any] = {"delta": {"content": text}} if self._chat else {"text": text}
        return self.line({"index": 0, **said, "logprobs": None, "finish_reason": reason})

    def whole(self, text: str, wanted: Wanted) -> dict[str, Any]:
        turn = {"role": "assistant", "content": text}
        said: dict[str, Any] = {"message": turn} if self._chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": wanted.reason}
        return {**self._base, "object": self._kind, "choices": [choice], "usage": wanted.usage()}


async def _version(_: web.Request) -> web.Response:
    return web.json_response({"version": "0.32.0+sim"})


def _prompt(body: Mapping[str, Any], *, chat: bool) -> str:
    if not chat:
        return str(body["prompt"])
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _error(code: int, kind: str, message: str) -> web.Response:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return web.json_response({"error": error}, status=code)


def load(model: Path) -> Behaviour:
    """What the model's folder asks for.

    Raises:
        OSError: no sim.json, so no model for this engine.
        TypeError: a knob that there is not.
    """
    return Behaviour(**json.loads((model / "sim.json").read_bytes()))


async def serve(engine: Engine, host: str, port: int, stop: asyncio.Event) -> None:
    """Serves until `stop`; then takes no more connections, closes idle ones and ends what is in flight."""
    runner = web.AppRunner(
        engine.app(), access_log=None, handler_cancellation=True, shutdown_timeout=_DRAIN_S
    )
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=1024).start()
    print(f"serving {engine.model} as {engine.name} on port {port}", flush=True)
    await stop.wait()
    await runner.cleanup()
