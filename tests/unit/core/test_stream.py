from __future__ import annotations

import doctest
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_release.core import stream
from llm_release.core.stream import Completion, Events


def fed(data: bytes, sizes: list[int]) -> list[str]:
    """Feeds `data` in pieces of these sizes, over and over."""
    events, found, at, n = Events(), [], 0, 0
    while at < len(data):
        size = sizes[n % len(sizes)]
        found += events.feed(data[at : at + size])
        at, n = at + size, n + 1
    return found


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), min_size=1), max_size=6
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.booleans(),
)
def test_events_do_not_depend_on_how_the_bytes_are_cut(
    texts: list[str], end: str, sizes: list[int], comments: bool
) -> None:
    extra = f": ping{end}event: x{end}id: 1{end}" if comments else ""
    data = "".join(f"{extra}data: {t}{end}{end}" for t in texts).encode()
    # A lone CR at the very end could still be half of a CRLF, so the stream goes on with a comment.
    assert fed(data + f":{end}".encode(), sizes) == texts


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_no_bytes_break_the_parser(data: bytes, sizes: list[int]) -> None:
    assert fed(data, sizes) == fed(data, [len(data) or 1])
    completion = Completion()
    for event in fed(data, sizes):
        completion.event(event)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "content", "usage", "error", "model", "completion_tokens"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_no_document_breaks_the_completion(document: object) -> None:
    completion = Completion()
    completion.event(json.dumps(document))
    assert completion.tokens >= 0
    assert isinstance(completion.text, str)


def chunk(
    content: str | None = None, tokens: int | None = None, finish: str | None = None, role: str | None = None
) -> str:
    delta = {k: v for k, v in (("role", role), ("content", content)) if v is not None}
    usage = {} if tokens is None else {"usage": {"completion_tokens": tokens, "prompt_tokens": 7}}
    return json.dumps({"model": "m", "choices": [{"delta": delta, "finish_reason": finish}], **usage})


def test_a_stream_as_vllm_writes_it() -> None:
    completion = Completion()
    arrived = [
        completion.event(e)
        for e in (
            chunk("", 0, role="assistant"),
            chunk("", 1),
            chunk("", 2),
            chunk("caf\u00e9", 3),
            chunk("!", 4, "stop"),
            json.dumps({"choices": [], "usage": {"completion_tokens": 4}}),
            "[DONE]",
        )
    ]
    # The role chunk is no token; a token that is half a character is one.
    assert arrived == [False, True, True, True, True, False, False]
    assert (completion.text, completion.tokens, completion.finish_reason) == ("caf\u00e9!", 4, "stop")
    assert (completion.done, completion.error, completion.model, completion.prompt_tokens) == (
        True,
        None,
        "m",
        7,
    )


def test_without_the_engines_count_chunks_with_text_are_counted() -> None:
    completion = Completion()
    assert [completion.event(chunk(c)) for c in ("", "a", "b")] == [False, True, True]
    assert completion.tokens == 2


def test_several_tokens_in_a_chunk_are_several_tokens() -> None:
    completion = Completion()
    for event in (chunk("a b c d", 4), chunk("e f g h", 8)):
        completion.event(event)
    assert completion.tokens == 8


def test_an_answer_that_is_not_streamed_is_read_too() -> None:
    completion = Completion()
    completion.document(
        {
            "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
            "usage": {"completion_tokens": 2},
        }
    )
    assert (completion.text, completion.tokens, completion.finish_reason) == ("hi", 2, "stop")
    completion = Completion()
    completion.document({"choices": [{"text": "hi", "finish_reason": "length"}]})
    assert (completion.text, completion.finish_reason) == ("hi", "length")


@pytest.mark.parametrize("error", [{"message": "boom", "code": 500}, "boom"])
def test_an_error_inside_the_stream_is_an_error(error: object) -> None:
    completion = Completion()
    completion.event(json.dumps({"error": error}))
    assert completion.error == "boom"


@pytest.mark.parametrize("event", ["no json", "[]", "1", '{"choices": ["x"]}'])
def test_an_event_that_is_no_completion_is_invalid(event: str) -> None:
    completion = Completion()
    completion.event(event)
    assert completion.invalid


def test_the_examples_of_the_documentation_hold() -> None:
    assert doctest.testmod(stream).failed == 0
