"""One connection to a served model and one question over it.

Which release answers is asked once per connection: a TCP connection stays on one pod, and an engine reports
the folder of its weights, which is named after the release.
"""

from __future__ import annotations

import http.client
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Cut = Literal["", "reset", "closed", "refused"]
"""How the other side ended a connection that was in use: `reset` without an answer, `closed` after one, `refused`
with a server error, as vLLM answers on its open connections while it shuts down."""

_SERIAL = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What every request asks, and how long it may take."""

    host: str
    port: int
    model: str
    text: str
    max_tokens: int = 24
    timeout_s: float = 30.0

    @property
    def body(self) -> bytes:
        return json.dumps(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": self.text}],
                "max_tokens": self.max_tokens,
                "temperature": 0,
            }
        ).encode()


class Refused(Exception):
    """The server answered, but not with what was asked for."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}")
        self.status = status


class Gone(Exception):
    """A connection that worked before was found ended, before any byte of an answer."""


class Ending(Gone):
    """A connection that worked before got a server error: its engine is shutting down."""


class Connection:
    """An open connection to one pod.

    Raises:
        OSError, http.client.HTTPException, Refused: it could not be opened or the pod does not say who it is.
    """

    def __init__(self, question: Question) -> None:
        self.serial = next(_SERIAL)
        self.uses = 0
        self._question = question
        self._http = http.client.HTTPConnection(question.host, question.port, timeout=question.timeout_s)
        try:
            self._http.connect()
            models = self._exchange("GET", "/v1/models", None)
            self.release = str(models["data"][0]["root"]).rstrip("/").rpartition("/")[2]
        except BaseException:
            self._http.close()
            raise

    def ask(self) -> str:
        """Asks the question.

        Returns: the answer's text.

        Raises:
            Gone: the connection had ended before this request; nothing of an answer came.
            OSError, http.client.HTTPException, Refused: as for opening.
        """
        reused = self.uses > 0
        self.uses += 1
        try:
            answer = self._exchange("POST", "/v1/chat/completions", self._question.body)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as e:
            if reused:
                raise Gone(str(e)) from e
            raise
        except Refused as e:
            if reused and e.status >= 500:
                raise Ending(str(e)) from e
            raise
        return str(answer["choices"][0]["message"]["content"])

    @property
    def ended(self) -> bool:
        """Whether the server said with its last answer that it closes the connection."""
        return self._http.sock is None

    def close(self) -> None:
        self._http.close()

    def _exchange(self, method: str, path: str, body: bytes | None) -> Mapping[str, Any]:
        if self._http.sock is None:
            # The library would quietly open another connection, perhaps to another pod.
            raise http.client.RemoteDisconnected("closed by the server")
        self._http.request(method, path, body, {"content-type": "application/json"})
        response = self._http.getresponse()
        text = response.read()
        if response.status != 200:
            raise Refused(response.status, text[:200].decode(errors="replace"))
        found: Mapping[str, Any] = json.loads(text)
        return found
