"""How a question reaches the hub: redirects, the token, and who may see it. One try each; no retries here.

The token goes to the hub's origin alone; an address that the hub redirects to elsewhere (its storage) is
asked without it. Addresses are shown without their query, because signed ones carry the signature there.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
import urllib.parse
from dataclasses import dataclass
from types import TracebackType

from llm_release.clients import hub_errors
from llm_release.clients.wire import Line, Origin, Target, target, told
from llm_release.core.errors import ReleaseError, Transient
from llm_release.core.exitcodes import Code, Refused

MAX_REDIRECTS = 5
BODY_WITHIN_S = 120
"""For a body that is read whole: a list of files, a configuration."""
_REDIRECTS = (301, 302, 303, 307, 308)
_TOKEN = re.compile(r"[\x21-\x7e]+")
_USER_AGENT = "llm-release"


class Lines:
    """The kept-alive connections of one thread, one per origin."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lines: dict[Origin, Line] = {}

    def to(self, origin: Origin) -> Line:
        line = self._lines.get(origin)
        if line is None:
            line = self._lines[origin] = Line(origin, timeout_s=self._timeout_s)
        return line

    def close(self) -> None:
        for line in self._lines.values():
            line.close()

    def abort(self) -> None:
        """Ends all of them, from any thread; the owner sees an early end or an error."""
        for line in tuple(self._lines.values()):
            line.abort()

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Body:
    """An answer whose bytes are still to be read from `response`.

    `at` is where they come from: worth keeping when it is not the hub itself, because a signed address stays
    good for a while. An unread rest has to be followed by `line.close()`.
    """

    response: http.client.HTTPResponse
    line: Line
    at: Target


class HubHttp:
    """Asks the hub at `endpoint`.

    Args:
        endpoint: http or https address.
        token: None for anonymous.

    Raises:
        Refused: the token is none (blanks, control characters); its text is not repeated.
    """

    def __init__(self, endpoint: str, token: str | None) -> None:
        if token is not None and not _TOKEN.fullmatch(token):
            # http.client would refuse such a header with the token in its message.
            raise Refused(
                Code.TOKEN_REFUSED,
                "the token file does not hold a token: it is empty or has blanks inside.",
                next_action="store the bare token in the secret.",
            )
        self.endpoint = endpoint.rstrip("/")
        self.hub = target(self.endpoint)
        self._token = token

    @property
    def has_token(self) -> bool:
        return self._token is not None

    def file(self, repo: str, commit: str, path: str) -> Target:
        """Where the hub gives out a file, or redirects to who does."""
        return target(f"{self.endpoint}/{repo}/resolve/{commit}/{urllib.parse.quote(path)}")

    def open(self, where: Target, lines: Lines, *, what: str, span: tuple[int, int] | None = None) -> Body:
        """Asks `where` for its bytes [start, end) (all without a span) and follows redirects.

        Args:
            what: the thing, in the words of the error messages.

        Raises:
            Refused: not there, not for us: told apart in hub_errors.
            Busy, Expired, Transient, Unavailable: worth another try.
        """
        for _ in range(MAX_REDIRECTS + 1):
            line = lines.to(where.origin)
            try:
                response = line.get(where.path, {**self._headers(where), **_range(span)})
                if response.status in (200, 206):
                    return Body(response, line, where)
                location = response.headers.get("Location")
                read_all(response, line, limit=1 << 16)
            except BaseException:
                line.close()
                raise
            if response.status not in _REDIRECTS or not location:
                raise self.refusal(where, response, what)
            where = target(location, base=where)
        raise Transient(
            f"{what}: more than {MAX_REDIRECTS} redirects.", next_action="check the hub's endpoint."
        )

    def refusal(self, where: Target, response: http.client.HTTPResponse, what: str) -> ReleaseError:
        if where.origin != self.hub.origin:
            return hub_errors.elsewhere(response.status, response.headers, what, where)
        return hub_errors.refusal(response.status, response.headers, what, has_token=self.has_token)

    def _headers(self, where: Target) -> dict[str, str]:
        headers = {"User-Agent": _USER_AGENT}
        if self._token is not None and where.origin == self.hub.origin:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers


def read_all(response: http.client.HTTPResponse, line: Line, *, limit: int) -> bytes:
    """The body, at most `limit` bytes of it; the connection stays usable only when it was read to its end.

    In BODY_WITHIN_S: the timeout of a connection starts again with every byte, and a trickle would never end.
    """
    end = threading.Timer(BODY_WITHIN_S, line.abort)
    end.daemon = True
    end.start()
    try:
        with told(line.origin, connected=True):
            body = response.read(limit)
            short = response.length is not None and response.length > 0
    finally:
        end.cancel()
    if short or len(body) == limit:
        with contextlib.suppress(OSError):
            line.close()
    if short and len(body) < limit:
        raise Transient(f"the connection to {line.origin} ended early.", next_action="it is tried again.")
    return body


def _range(span: tuple[int, int] | None) -> dict[str, str]:
    return {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
