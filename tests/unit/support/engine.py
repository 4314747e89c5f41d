"""An engine on loopback that answers as it is told: OpenAI's API over real sockets, in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(slots=True)
class Reply:
    """One answer.

    Args:
        text: cut into words, one chunk each.
        finish: reason at the end; None: the stream ends without one.
        status: other than 200: an error document and nothing else.
        first_s: before the first token; the role chunk goes out at once.
        gap_s: between two tokens.
        end: `done`, `cut` (no end mark), `reset` (connection torn), `hang`, `error` (inside the stream).
        end_after: tokens before that end; None: all.
        counted: whether the engine counts tokens in every chunk, as vLLM does.
        model: name in the answer; None: the one that was asked for.
        raw: bytes to send instead of all that.
    """

    text: str = "It is fine ."
    finish: str | None = "stop"
    status: int = 200
    first_s: float = 0.0
    gap_s: float = 0.0
    end: str = "done"
    end_after: int | None = None
    counted: bool = True
    model: str | None = None
    raw: bytes | None = None


@dataclass(slots=True)
class Engine:
    """Serves `model`; answers with `replies` in turn, then with `default` (or what it makes of the request)."""

    model: str = "m"
    default: Reply | Callable[[dict[str, Any]], Reply] = field(default_factory=Reply)
    replies: deque[Reply] = field(default_factory=deque)
    asked: list[dict[str, Any]] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)
    url: str = ""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _runner: web.AppRunner | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Engine:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread:
            self._thread.join(5)

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        ready.set()
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        if self._runner:
            self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/v1/completions", self._complete)
        self._runner = runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512)
        await site.start()
        assert runner.addresses
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append({**asked, "path": request.path})
        self.connections.add(id(request.transport))
        default = self.default(asked) if callable(self.default) else self.default
        reply = self.replies.popleft() if self.replies else default
        if reply.status != 200:
            return web.json_response({"error": {"message": "not now"}}, status=reply.status)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        if reply.raw is not None:
            await answer.write(reply.raw)
            return answer
        await self._stream(answer, reply, chat="messages" in asked, request=request)
        return answer

    async def _stream(
        self, answer: web.StreamResponse, reply: Reply, *, chat: bool, request: web.Request
    ) -> None:
        async def chunk(choices: list[dict[str, Any]], tokens: int) -> None:
            usage = {"usage": {"prompt_tokens": 5, "completion_tokens": tokens}} if reply.counted else {}
            document = {"model": reply.model or self.model, "choices": choices, **usage}
            await answer.write(f"data: {json.dumps(document)}\n\n".encode())

        words = [w + " " for w in reply.text.split(" ")] if reply.text else []
        if chat:
            await chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}}], 0)
        await asyncio.sleep(reply.first_s)
        for n, word in enumerate(words[: reply.end_after]):
            if n:
                await asyncio.sleep(reply.gap_s)
            said = {"delta": {"content": word}} if chat else {"text": word}
            await chunk([{"index": 0, **said, "finish_reason": None}], n + 1)
        await self._end(answer, reply, chunk, len(words), request)

    async def _end(
        self, answer: web.StreamResponse, reply: Reply, chunk: Any, tokens: int, request: web.Request
    ) -> None:
        if reply.end == "reset":
            assert request.transport
            request.transport.abort()
        elif reply.end == "hang":
            await asyncio.sleep(30)
        elif reply.end == "error":
            await answer.write(b'data: {"error": {"message": "out of memory"}}\n\n')
        elif reply.end == "done":
            if reply.finish:
                await chunk([{"index": 0, "delta": {}, "finish_reason": reply.finish}], tokens)
            await chunk([], tokens)
            await answer.write(b"data: [DONE]\n\n")
