"""A hub on loopback that goes wrong on command: two origins, real sockets, files from memory.

For the unit tests of what we build on the hub's protocol. Each fault hits the requests whose path contains
its text, as often as it says, and everything that was asked is kept for the test to look at.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34
GOOD_TOKEN = "hf_" + "GoodTokenForTests"
LFS_FROM = 10_000
"""Bytes from which on a file is an LFS file and comes from the other origin."""


@dataclass(slots=True)
class Fault:
    """What goes wrong.

    Args:
        where: text in the path of the requests that it hits.
        status: answer with this status and nothing else.
        headers: of that answer.
        cut: end the connection after so many bytes of the body.
        stall: send no more after so many bytes of the body, but keep the connection.
        flip: offset in the file of a byte that is sent with one bit changed.
        times: how many requests it hits.
    """

    where: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    stall: int | None = None
    flip: int | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived."""

    origin: str
    path: str
    token: str | None
    range: str | None


class Hub:
    """Serves `files` as repository acme/model (and gated/model, private/model) at COMMIT; main and v1 point to it."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.sent = 0
        """Bytes of file bodies that left, over all connections."""
        self.page = 1000
        self.signature = 1
        """What a signed address must carry; raise it and all addresses handed out are expired."""
        self.rate: float | None = None
        """Bytes a second of one connection; None: as fast as it goes."""
        self.link_to = ""
        """Origin of the next page's address; empty: this hub."""
        self.lock = threading.Lock()
        self._servers = {name: _Server(name, self) for name in ("hub", "cdn")}
        self.url, self.cdn = (s.url for s in self._servers.values())

    def __enter__(self) -> Hub:
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def fault(self, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.where in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def tree(self) -> list[dict[str, object]]:
        return [{"type": "directory", "path": "folder", "oid": "0" * 40, "size": 0}] + [
            entry(path, data) for path, data in sorted(self.files.items())
        ]


def entry(path: str, data: bytes) -> dict[str, object]:
    if len(data) < LFS_FROM:
        return {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
    sha = hashlib.sha256(data).hexdigest()
    lfs = {"oid": sha, "size": len(data), "pointerSize": 134}
    return {"type": "file", "path": path, "size": len(data), "oid": blob_id(sha.encode()), "lfs": lfs}


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name, self.hub = name, hub
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        hub, path = self.server.hub, urllib.parse.unquote(self.path)
        token = self.headers.get("Authorization")
        hub.asked.append(Asked(self.server.name, path, token, self.headers.get("Range")))
        fault = hub.fault(path)
        if fault and fault.status:
            self._answer(fault.status, b"", dict(fault.headers))
        elif self.server.name == "cdn":
            self._storage(path, fault)
        else:
            self._hub(path, (token or "").removeprefix("Bearer "), fault)

    def _hub(self, path: str, token: str, fault: Fault | None) -> None:
        hub = self.server.hub
        found = re.match(r"(?:/api/models)?/(\w+/model)/(revision|tree|resolve)/([^/?]+)/?([^?]*)", path)
        if refused := _refusal(found[1] if found else "", token):
            self._answer(refused[0], b"{}", refused[1])
        elif not found or found[3] not in (COMMIT, "main", "v1"):
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound" if found else "RepoNotFound"})
        elif found[2] == "revision":
            about = {
                "id": found[1],
                "sha": COMMIT,
                "private": False,
                "gated": "manual" if "gated" in found[1] else False,
            }
            self._answer(200, json.dumps({**about, "tags": ["license:gemma", "x"]}).encode())
        elif found[2] == "tree":
            self._tree(path)
        elif found[4] not in hub.files:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif len(hub.files[found[4]]) < LFS_FROM:
            self._bytes(found[4], fault)
        else:
            location = f"{hub.cdn}/{urllib.parse.quote(found[4])}?signature={hub.signature}"
            self._answer(302, b"", {"Location": location})

    def _tree(self, path: str) -> None:
        hub, query = self.server.hub, urllib.parse.parse_qs(path.partition("?")[2])
        start = int(query.get("cursor", ["0"])[0])
        entries = hub.tree()
        headers = {}
        if start + hub.page < len(entries):
            address = path.partition("?")[0]
            headers["Link"] = f'<{hub.link_to or hub.url}{address}?cursor={start + hub.page}>; rel="next"'
        self._answer(200, json.dumps(entries[start : start + hub.page]).encode(), headers)

    def _storage(self, path: str, fault: Fault | None) -> None:
        name, _, signature = path.removeprefix("/").partition("?signature=")
        if signature != str(self.server.hub.signature):
            self._answer(403, b"<Error>expired</Error>")
        else:
            self._bytes(name, fault)

    def _bytes(self, name: str, fault: Fault | None) -> None:
        data = self.server.hub.files[name]
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        start, end = (int(found[1]), min(int(found[2]) + 1, len(data))) if found else (0, len(data))
        body = bytearray(data[start:end])
        if fault and fault.flip is not None and start <= fault.flip < end:
            body[fault.flip - start] ^= 1
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"} if found else {}
        stop = next((n for n in (fault.cut, fault.stall) if n is not None), None) if fault else None
        self._answer(206 if found else 200, bytes(body), headers, stop=stop)
        if stop is not None and stop < len(body):
            if fault and fault.stall is not None:
                self.connection.settimeout(20)
                self.rfile.read(1)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, stop: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in _pieces(body[:stop]):
            self.wfile.write(piece)
            if status in (200, 206) and (headers is None or "Content-Range" in headers):
                with self.server.hub.lock:
                    self.server.hub.sent += len(piece)
            if self.server.hub.rate:
                time.sleep(len(piece) / self.server.hub.rate)


def _pieces(body: bytes) -> list[bytes]:
    return [body[i : i + 65536] for i in range(0, len(body), 65536)]


def _refusal(repo: str, token: str) -> tuple[int, dict[str, str]] | None:
    if token and token not in (GOOD_TOKEN, "hf_other"):
        return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}
    if repo == "gated/model" and not token:
        return 401, {
            "X-Error-Code": "GatedRepo",
            "X-Error-Message": "Access to model gated/model is restricted.",
        }
    if repo == "gated/model" and token != GOOD_TOKEN:
        return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "You are not in the authorized list."}
    if repo not in ("acme/model", "gated/model") and token != GOOD_TOKEN:
        return 401, {"X-Error-Code": "RepoNotFound"}
    return None
