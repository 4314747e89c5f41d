"""HTTP answers: JSON, errors as the hub shapes them, and files sent by the kernel at an agreed pace."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from testbench.fakes.hf_hub.faults import Entry, Fault, Faults, Log

_CHUNK = 4 << 20
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Server(ThreadingHTTPServer):
    """One origin. Both origins share their faults and their log."""

    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[Handler],
        *,
        faults: Faults,
        log: Log,
        rate: float | None,
    ) -> None:
        super().__init__(address, handler)
        self.faults, self.log, self.rate = faults, log, rate
        self.origin = handler.origin

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news; anything else is printed as usual."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers with the faults applied. Subclasses route."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    origin = "?"
    server: Server
    entry: Entry

    def log_message(self, format: str, *args: Any) -> None:
        """The log is read over HTTP instead."""

    def route(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.entry = Entry(
            origin=self.origin,
            method=self.command,
            path=url.path,
            query=url.query if self.origin == "hub" else "",
            range=self.headers.get("Range"),
            token="Authorization" in self.headers,
        )
        if not url.path.startswith("/_bench/"):
            self.server.log.add(self.entry)
            fault = self.server.faults.strike(url.path, "status", "hang")
            if fault is not None:
                return self._fail(fault)
        self.route()

    def do_HEAD(self) -> None:
        self.do_GET()

    def json(self, content: Any, code: int = 200, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self._head(
            code, {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        )
        self._body(body, 0, len(body))

    def error(
        self, code: int, kind: str | None, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """An error as the hub gives it; `kind` is its X-Error-Code."""
        named = {"X-Error-Code": kind} if kind else {}
        self.json({"error": message}, code, {**named, "X-Error-Message": message, **(headers or {})})

    def redirect(self, to: str, headers: Mapping[str, str]) -> None:
        self._head(302, {"Location": to, "Content-Length": "0", **headers})

    def file(self, path: Path, headers: Mapping[str, str]) -> None:
        """The file or the part that was asked for: 200, 206 or 416."""
        size = path.stat().st_size
        span = _span(self.headers.get("Range"), size)
        if span is None:
            self._head(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        first, end = span
        partial = self.headers.get("Range") is not None
        told = {"Content-Range": f"bytes {first}-{end - 1}/{size}"} if partial else {}
        length = {"Content-Length": str(end - first), "Accept-Ranges": "bytes"}
        kind = {"Content-Type": "application/octet-stream"}
        self._head(206 if partial else 200, {**kind, **length, **told, **headers})
        self._body(path, first, end)

    def _head(self, code: int, headers: Mapping[str, str]) -> None:
        self.entry.status = code
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _fail(self, fault: Fault) -> None:
        if fault.kind == "hang":
            self.server.faults.stall(fault)
            self._cut()
            return
        extra = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
        self.error(fault.code, None, f"status {fault.code} asked for by a test", extra)

    def _body(self, source: Path | bytes, first: int, end: int) -> None:
        """Sends [first, end) with the faults of bodies."""
        if self.command == "HEAD" or first >= end:
            return
        faults, path = self.server.faults, self.entry.path
        bench = path.startswith("/_bench/")
        stop = None if bench else faults.strike(path, "stall", "cut")
        slow = None if bench else faults.strike(path, "slow")
        bad = None if bench else faults.strike(path, "corrupt", span=(first, end))
        last = end if stop is None else min(end, first + stop.after_bytes)
        pace = _Pace(slow.rate if slow else self.server.rate)
        spot = bad.offset if bad and bad.offset < last else last
        self._send(source, first, spot, pace)
        if spot < last:
            self._send_inverted(source, spot)
            self._send(source, spot + 1, last, pace)
        if stop is not None and last < end:
            if stop.kind == "stall":
                faults.stall(stop)
            self._cut()

    def _send(self, source: Path | bytes, first: int, end: int, pace: _Pace) -> None:
        if isinstance(source, bytes):
            self.wfile.write(source[first:end])
            self.entry.bytes += end - first
            return
        self.wfile.flush()
        with source.open("rb") as f:
            while first < end:
                sent = os.sendfile(self.connection.fileno(), f.fileno(), first, min(end - first, pace.chunk))
                if sent == 0:
                    raise ConnectionError("the file ended early")
                first += sent
                self.entry.bytes += sent
                pace.wait(sent)

    def _send_inverted(self, source: Path | bytes, at: int) -> None:
        if isinstance(source, bytes):
            byte = source[at]
        else:
            with source.open("rb") as f:
                f.seek(at)
                byte = f.read(1)[0]
        self.wfile.write(bytes([byte ^ 0xFF]))
        self.entry.bytes += 1

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class _Pace:
    """Keeps a connection at a rate; None is as fast as it goes."""

    def __init__(self, rate: float | None) -> None:
        self._rate, self._sent, self._start = rate, 0, time.monotonic()
        self.chunk = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 20)))

    def wait(self, sent: int) -> None:
        self._sent += sent
        if self._rate is not None:
            time.sleep(max(0.0, self._start + self._sent / self._rate - time.monotonic()))


def _span(wanted: str | None, size: int) -> tuple[int, int] | None:
    """The bytes [first, end) to send; None: not satisfiable."""
    found = _RANGE.fullmatch(wanted or "")
    if not found or found[0] == "bytes=-":
        return 0, size
    if not found[1]:
        return max(0, size - int(found[2])), size
    first, end = int(found[1]), min(int(found[2] or size - 1) + 1, size)
    return (first, end) if first < size and first < end else None
