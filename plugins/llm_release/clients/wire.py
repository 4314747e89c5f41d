"""One kept-alive HTTP/1.1 connection with a deadline for every wait, built on http.client.

The download needs `readinto` (no copies, the GIL released) and a way to end a connection from another thread;
the hub's own client has neither, and its listing calls have no timeout at all (huggingface_hub 2.4). Nothing
here knows the hub: redirects, tokens and retries are the caller's.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import socket
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from llm_release.core.errors import Permanent, Transient, Unavailable

_IDLE_CLOSED = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what a browser calls the origin, and what a token is bound to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """An origin and what is asked of it (path and query)."""

    origin: Origin
    path: str

    def __str__(self) -> str:
        """Without the query: signed addresses carry their signature there."""
        return f"{self.origin}{self.path.partition('?')[0]}"


def target(url: str, *, base: Target | None = None) -> Target:
    """Splits an absolute URL, or one relative to `base`.

    Raises:
        Permanent: neither http nor https, or no host.
    """
    absolute = urllib.parse.urljoin(f"{base.origin}{base.path}", url) if base else url
    try:
        parts = urllib.parse.urlsplit(absolute)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError) as e:
        raise _bad_address(absolute) from e
    if not parts.hostname:
        raise _bad_address(absolute)
    path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    return Target(
        Origin(parts.scheme, parts.hostname, port), path + (f"?{parts.query}" if parts.query else "")
    )


def _bad_address(url: str) -> Permanent:
    shown = url.partition("?")[0][:200]
    return Permanent(f"{shown!r} is no http or https address.", next_action="correct the endpoint's address.")


class Line:
    """A connection to one origin; opened at the first request, opened again after an error.

    Not for several threads at once, but for `abort`.

    Args:
        origin: where to.
        timeout_s: longest wait for the connection, and for each piece of an answer.
    """

    def __init__(self, origin: Origin, *, timeout_s: float) -> None:
        self.origin = origin
        # http.client lets go of the socket of an answer that ends its connection; abort must still reach it.
        self._sock: socket.socket | None = None
        self._http: http.client.HTTPConnection
        if origin.scheme == "https":
            self._http = http.client.HTTPSConnection(
                origin.host, origin.port, timeout=timeout_s, context=_tls(), blocksize=1 << 16
            )
        else:
            self._http = http.client.HTTPConnection(origin.host, origin.port, timeout=timeout_s)

    def get(self, path: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Sends a GET and reads the head of its answer; the body is the caller's to read to its end.

        Raises:
            Unavailable: no connection could be made.
            Transient: the connection broke, or the answer's head did not come in time.
        """
        if self._http.sock is not None:
            # A server may close an idle connection at any time; that is no failure of the request.
            with told(self.origin, connected=True), contextlib.suppress(*_IDLE_CLOSED):
                return self._ask(path, headers)
            self.close()
        with told(self.origin, connected=False):
            self._http.connect()
        self._sock = self._http.sock
        with told(self.origin, connected=True):
            return self._ask(path, headers)

    def _ask(self, path: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        self._http.request("GET", path, headers={"Accept-Encoding": "identity", **headers})
        return self._http.getresponse()

    def abort(self) -> None:
        """Ends the connection from any thread; whoever reads from it gets an early end or an error."""
        sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                # SSLSocket.shutdown would drop the TLS state under the reader's feet.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._http.close()
        self._sock = None


@contextlib.contextmanager
def told(origin: Origin, *, connected: bool) -> Iterator[None]:
    """Errors of sockets and of HTTP framing leave as ours. Never with a header's value in the message."""
    try:
        yield
    except ssl.SSLCertVerificationError as e:
        raise Permanent(
            f"{origin} has a certificate that this machine does not trust: {e.verify_message}.",
            next_action="add its authority to the image, or correct the endpoint's address.",
        ) from None
    except (OSError, http.client.HTTPException) as e:
        said = str(e) or type(e).__name__
        if connected:
            raise Transient(
                f"the connection to {origin} broke: {said}.", next_action="it is tried again."
            ) from e
        raise Unavailable(
            f"{origin} cannot be reached: {said}.",
            next_action="check the address and the network of this machine.",
        ) from e


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
