"""A streamed chat or text completion: bytes in, what the engine said out. Pure, incremental, no clock.

The frames are server-sent events (WHATWG HTML, "Server-sent events"): LF, CRLF or CR, comments, several data
lines an event, characters split between chunks. The content is OpenAI's, as vLLM writes it: a role chunk
first, tokens that are no text yet, usage in a chunk without choices, an error in an answer that began as 200.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from typing import Any


class Events:
    """Cuts a byte stream into the data of its events.

    >>> events = Events()
    >>> events.feed(b"data: a\\r\\n\\r\\n: comment\\ndata: b\\ndata: c\\n")
    ['a']
    >>> events.feed(b"\\n")
    ['b\\nc']
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[str]:
        """The events that `chunk` completes."""
        found: list[str] = []
        text = self._rest + self._decoder.decode(chunk)
        # A CR at the end may be half of a CRLF.
        held = text.endswith("\r")
        lines = (text[:-1] if held else text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = lines.pop() + ("\r" if held else "")
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                found.append("\n".join(self._data))
                self._data = []
        return found

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))


class Completion:
    """What a stream has said so far. Feed it every event in order.

    Attributes:
        text: the answer.
        tokens: of the answer, by the engine's own count where it counts, else chunks with text.
        finish_reason: `stop`, `length`, ...; None until the engine says it.
        reasoned: it sent reasoning, which is no part of the text.
        done: the end mark was seen.
        error: the engine's words, where it reported an error inside the stream.
        invalid: an event was no completion.
        model: the name that the engine answers under.
    """

    __slots__ = (
        "_counted",
        "_texts",
        "done",
        "error",
        "finish_reason",
        "invalid",
        "model",
        "prompt_tokens",
        "reasoned",
        "tokens",
    )

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._counted = False
        self.tokens = 0
        self.prompt_tokens: int | None = None
        self.finish_reason: str | None = None
        self.reasoned = False
        self.done = False
        self.error: str | None = None
        self.invalid = False
        self.model: str | None = None

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def event(self, data: str) -> bool:
        """Takes one event; True when it brought a token of the answer."""
        if data.strip() == "[DONE]":
            self.done = True
            return False
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, Mapping):
            self.invalid = True
            return False
        return self.document(document)

    def document(self, document: Mapping[str, Any]) -> bool:
        """Takes a chunk, or the one document of an answer that is not streamed."""
        if document.get("error"):
            self.error = self.error or _message(document["error"])
            return False
        if isinstance(document.get("model"), str):
            self.model = document["model"]
        before = self.tokens
        said = self._choice(document.get("choices"))
        self._usage(document.get("usage"))
        if said and not self._counted:
            self.tokens = before + 1
        return self.tokens > before or (said and before == 0)

    def _choice(self, choices: Any) -> bool:
        if not isinstance(choices, list) or not choices:
            return False
        choice = choices[0]
        if not isinstance(choice, Mapping):
            self.invalid = True
            return False
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]
        body = choice.get("delta") or choice.get("message") or choice
        if isinstance(body, Mapping) and (body.get("reasoning_content") or body.get("reasoning")):
            self.reasoned = True
            return True
        text = next((body[k] for k in ("content", "text") if isinstance(body, Mapping) and body.get(k)), None)
        if not isinstance(text, str):
            return False
        self._texts.append(text)
        return True

    def _usage(self, usage: Any) -> None:
        if not isinstance(usage, Mapping):
            return
        if isinstance(usage.get("completion_tokens"), int):
            self._counted = True
            self.tokens = max(self.tokens, usage["completion_tokens"])
        if isinstance(usage.get("prompt_tokens"), int):
            self.prompt_tokens = usage["prompt_tokens"]


def _message(error: Any) -> str:
    said = error.get("message") if isinstance(error, Mapping) else error
    return str(said)[:300] or "no reason given"
