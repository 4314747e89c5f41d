"""A small threaded HTTP/1.1 server: requests as values, answers as values.

The fake of Google's APIs stands on it. It knows no protocol above HTTP and has no TLS: it listens on loopback
and on the bench's bridge only.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. `path` is decoded, `target` is as it was sent; `headers` has lower-case names."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    target: str

    def json(self) -> Json:
        """
        Raises:
            ValueError: the body is no JSON.
        """
        return json.loads(self.body or b"{}")

    def values(self, name: str) -> list[str]:
        """All values of a query parameter, given several times or as a comma-separated list."""
        pairs = parse_qsl(urlsplit(self.target).query)
        return [v.strip() for k, text in pairs if k == name for v in text.split(",") if v.strip()]

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def as_json(document: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(document).encode()
    return Response(
        status=status,
        headers={"Content-Type": "application/json; charset=UTF-8", **(headers or {})},
        body=body,
    )


Handler = Callable[[Request], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a pattern of the whole path; the named groups are handed to the handler."""

    method: str
    pattern: re.Pattern[str]
    handler: Callable[..., Response]


def route(method: str, pattern: str, handler: Callable[..., Response]) -> Route:
    """`{name}` in the pattern is one path segment, `{name:.+}` whatever the expression says."""
    expression = re.sub(r"\{(\w+)(?::([^}]+))?\}", lambda m: f"(?P<{m[1]}>{m[2] or '[^/]+'})", pattern)
    return Route(method, re.compile(expression), handler)


def find(routes: Sequence[Route], method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    for one in routes:
        if one.method == method and (found := one.pattern.fullmatch(path)):
            return one, found.groupdict()
    return None


class Server(ThreadingHTTPServer):
    """Serves one handler on one address, a thread a connection."""

    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: Handler) -> None:
        self.handler = handler
        self._open: set[socket.socket] = set()
        super().__init__(address, _Connection)

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that went away is no error; anything else is told."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            traceback.print_exc()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Ends kept-alive connections too: their threads would go on answering."""
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        url = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=unquote(url.path),
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers={k.lower(): v for k, v in self.headers.items()},
            body=self.rfile.read(length) if length else b"",
            target=self.path,
        )
        assert isinstance(self.server, Server)
        try:
            response = self.server.handler(request)
        except Exception as e:  # the peer is told; a thread that dies in silence helps nobody
            traceback.print_exc()
            response = as_json({"error": {"code": 500, "message": f"{type(e).__name__}: {e}"}}, 500)
        self._answer(response)

    def _answer(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve


def address(text: str) -> tuple[str, int]:
    """
    >>> address("127.0.0.1:80")
    ('127.0.0.1', 80)
    """
    host, _, port = text.rpartition(":")
    return host, int(port)


def serve_until_signalled(servers: Sequence[Server]) -> None:
    """Runs the servers until SIGTERM or SIGINT; what they were told is on disk by then."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    for server in servers:
        server.start()
        print(f"listening url={server.url}", flush=True)
    stopping.wait()
    for server in servers:
        server.stop()
