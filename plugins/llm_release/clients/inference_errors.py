"""What went wrong between a client and an engine, as classes that a report can count."""

from __future__ import annotations

import errno
import json
import ssl
from collections.abc import Mapping

import aiohttp

_LOCAL = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)


class Refused(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(_error_text(body) or f"status {status}")
        self.status = status


def classify(e: BaseException, *, started: bool) -> str:
    """The class of an error, by what the client saw (`started`: the head of an answer had come)."""
    if isinstance(e, Refused):
        return _status_class(e.status)
    if isinstance(e, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(e, aiohttp.ConnectionTimeoutError):
        return "connect_timeout"
    if isinstance(e, TimeoutError):
        return "deadline"
    if isinstance(e, aiohttp.ClientSSLError | ssl.SSLError):
        return "tls"
    if isinstance(e, OSError) and e.errno in _LOCAL:
        return "local_resource"
    if isinstance(e, aiohttp.ClientConnectorError):
        return (
            "connect_timeout"
            if e.os_error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH)
            else "connect_refused"
        )
    if isinstance(e, aiohttp.ClientPayloadError | aiohttp.ClientConnectionError | OSError):
        return "stream_truncated" if started else "reset_before_headers"
    return "invalid_payload" if isinstance(e, aiohttp.ClientError | ValueError) else "other"


def _status_class(status: int) -> str:
    if status in (429, 503):
        return f"http_{status}"
    return "http_5xx" if status >= 500 else "http_4xx" if status >= 400 else "http_other"


def _error_text(body: str) -> str:
    try:
        document = json.loads(body)
    except ValueError:
        return body[:200]
    error = document.get("error", document) if isinstance(document, Mapping) else document
    return str(error.get("message") if isinstance(error, Mapping) else error)[:200]


def words(e: BaseException) -> str:
    return (str(e) or type(e).__name__)[:200]
